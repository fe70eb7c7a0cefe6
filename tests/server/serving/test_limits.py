"""What nginx spends on whoever calls: refused calls, strangers who only connect, and its logs (scenario 64)."""

import resource
import socket
import time
from contextlib import contextmanager

import pytest

from client.node import tls_context
from server.serving import front_conf as fronting
from tests.server.serving.stand import PULL, call, connection, post, signed, trusting, until_new_workers

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
