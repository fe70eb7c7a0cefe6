"""What nginx spends on whoever calls: floods, bodies, strangers who only connect, and its logs (scenario 64)."""

import resource
import socket
import ssl
import time
from contextlib import contextmanager

import pytest

from client.node.fleet_client import tls_context
from server.deployment import nginx as fronting
from tests.server.deployment.stand import PULL, call, connection, post, reached, signed, trusting, until_new_workers

REFUSED = 401


def test_refused_calls_are_capped_too_and_fill_no_log_of_errors(own_front, monkeypatch):
    monkeypatch.setattr(fronting, "CALLS_A_SECOND", 5)
    monkeypatch.setattr(fronting, "STRANGERS_CALLS_A_SECOND", 5)
    stand = own_front()
    good, wrong = (signed(stand.consortium.site(name)) for name in ("centre-a", "centre-b"))
    with connection(stand.consortium.port, tls_context(stand.consortium.site("centre-a"))) as opened:
        answers = [post(opened, path, wrong)[0] for path in ["/v1/control/list-runs", PULL] * 30]
        assert set(answers) == {401, 403, 429}
        assert answers.count(429) > 20
        assert post(opened, PULL, good)[0] == 429  # they count as its own
    nobody = trusting(stand.consortium)
    strange = [call(stand.consortium, "centre-a", context=nobody)[0] for _ in range(30)]
    assert set(strange) == {REFUSED, 429}
    # Whoever shows a certificate is not counted with the strangers of his address.
    assert call(stand.consortium, "centre-b")[0] == 200
    log = stand.consortium.kit.state / "nginx" / "error.log"
    assert "limiting" not in log.read_text()


@contextmanager
def files_allowed(count):
    """Let this process, and nginx after it, have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this machine allows {hard} open files; the test needs {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_strangers_who_connect_and_say_no_more_do_not_shut_a_hospital_out(own_front):
    held = []
    with files_allowed(4096):
        stand = own_front()
        try:
            for _ in range(2200):  # both workers had 1024 places
                held.append(socket.create_connection(("127.0.0.1", stand.consortium.port), timeout=5))
                held[-1].sendall(b"\x16\x03\x01")  # the beginning of a handshake
            began = time.monotonic()
            assert call(stand.consortium, "centre-a")[0] == 200
            assert time.monotonic() - began < 3
        finally:
            for item in held:
                item.close()


@pytest.mark.parametrize("said", ["handshake-begun", "handshake", "headers-begun"])
def test_who_connects_and_stalls_is_sent_away(own_front, monkeypatch, said):
    monkeypatch.setattr(fronting, "HURRY_S", 1)
    stand = own_front()
    with socket.create_connection(("127.0.0.1", stand.consortium.port), timeout=10) as plain:
        if said == "handshake-begun":
            plain.sendall(b"\x16\x03\x01")
            opened = plain
        else:
            opened = trusting(stand.consortium).wrap_socket(plain, server_hostname="127.0.0.1")
            if said == "headers-begun":
                opened.sendall(f"POST {PULL} HTTP/1.1\r\nHost: loc".encode())
        began = time.monotonic()
        assert not opened.recv(1000).startswith(b"HTTP/1.1 2")
        assert time.monotonic() - began < 4
        opened.close()


@pytest.mark.parametrize(("most", "expected"), [(1024, 924), (100_000, fronting.SLOTS)])
def test_a_worker_takes_no_more_places_than_the_machine_allows(monkeypatch, most, expected):
    monkeypatch.setattr(fronting.resource, "getrlimit", lambda _: (most, most))
    assert fronting._slots()[0] == expected


def test_what_an_idle_node_asks_all_the_time_is_not_logged_and_all_else_is(fronted):
    log = fronted.consortium.kit.state / "nginx" / "access.log"
    before = log.read_text()
    other = signed(fronted.consortium.site("centre-b"))
    asked = [(PULL, None), ("/v1/fleet/send-node-heartbeat", None), ("/v1/fleet/push-object", None), (PULL, other)]
    answers = [call(fronted.consortium, "centre-a", path, headers=headers)[0] for path, headers in asked]
    assert answers == [200, 200, 200, REFUSED]
    until_new_workers(lambda: log.read_text().count("\n") >= before.count("\n") + 2)
    lines = log.read_text()[len(before) :].splitlines()
    assert [line.partition(" ")[2].partition(" in=")[0] for line in lines] == [
        "centre-a 200 POST /v1/fleet/push-object",
        f" {REFUSED} POST {PULL}",
    ]


def test_a_flood_of_one_site_is_capped_and_the_others_go_on(own_front, monkeypatch):
    monkeypatch.setattr(fronting, "CALLS_A_SECOND", 5)
    stand = own_front()
    with (
        connection(stand.consortium.port, tls_context(stand.consortium.site("centre-a"))) as loud,
        connection(stand.consortium.port, tls_context(stand.consortium.site("centre-b"))) as quiet,
    ):
        of_loud, of_quiet = (signed(stand.consortium.site(name)) for name in ("centre-a", "centre-b"))
        began = time.monotonic()
        flood = [post(loud, PULL, of_loud, b"loud")[0] for _ in range(60)]
        allowed = 5 * (time.monotonic() - began) + 4 * 5 + 2  # the rate, the burst, and the first
        answers = [post(quiet, PULL, of_quiet, b"quiet")[0] for _ in range(15)]
    assert set(flood) == {200, 429}
    assert flood.count(200) <= allowed
    assert answers == [200] * 15
    assert sorted(body for _, body in stand.calls) == [b"loud"] * flood.count(200) + [b"quiet"] * 15


def test_a_site_that_opens_many_connections_is_capped_and_the_others_go_on(fronted):
    kit = fronted.consortium.site("centre-a")
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(kit).items())
    begun = f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 9\r\n\r\nhalf".encode()
    held = []
    try:
        for _ in range(fronting.CONNECTIONS):
            held.append(raw(fronted, kit))
            held[-1].sendall(begun)
        until_new_workers(lambda: call(fronted.consortium, "centre-a")[0] == 429)
        assert call(fronted.consortium, "centre-b")[0] == 200
    finally:
        for item in held:
            item.close()
    assert not [body for _, body in reached(fronted) if body == b"half"]


def raw(stand, kit):
    plain = socket.create_connection(("127.0.0.1", stand.consortium.port), timeout=10)
    return tls_context(kit).wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_body_over_the_cap_does_not_reach_flower(fronted):
    kit = fronted.consortium.site("centre-a")
    with raw(fronted, kit) as opened:  # told beforehand
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed(kit).items())
        size = fronting.LARGEST_CALL_MB * 2**20 + 1
        opened.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {size}\r\n\r\n".encode())
        assert opened.recv(100).startswith(b"HTTP/1.1 413")
    with raw(fronted, kit) as opened:  # piece by piece, its size never told
        opened.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"%x\r\n" % 2**20 + bytes(2**20) + b"\r\n"
        try:
            for _ in range(fronting.LARGEST_CALL_MB + 1):
                opened.sendall(piece)
            answer = opened.recv(100)
        except (ConnectionError, ssl.SSLError):
            answer = b""
        # 500 where the body's end of the buffer came before the cap: workers may write no file for the rest.
        assert answer == b"" or answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 500"))
    assert not reached(fronted)


def test_a_piece_of_weights_passes_whole_and_is_not_left_on_the_disk(fronted):
    body = bytes(range(256)) * (6 * 2**20 // 256)
    assert call(fronted.consortium, "centre-a", "/v1/fleet/push-object", body)[0] == 200
    assert reached(fronted) == [("/v1/fleet/push-object", body)]
    run = fronted.consortium.kit.state / "nginx"
    assert not [path for folder in ("body", "proxy") for path in (run / folder).rglob("*") if path.is_file()]
    assert "buffered to a temporary file" not in (run / "error.log").read_text()


def test_a_body_that_stalls_is_cut(own_front, monkeypatch):
    monkeypatch.setattr(fronting, "STALLED_S", 1)
    stand = own_front()
    kit = stand.consortium.site("centre-a")
    with raw(stand, kit) as opened:
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed(kit).items())
        opened.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 9\r\n\r\nhalf".encode())
        began = time.monotonic()
        assert not opened.recv(1000).startswith(b"HTTP/1.1 2")
        assert time.monotonic() - began < 5
    assert not reached(stand)
