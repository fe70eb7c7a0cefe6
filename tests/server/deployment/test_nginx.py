"""What nginx lets through to Flower, and what it does not (scenarios 48, 49, 52 and 64)."""

import http.client
import os
import signal
import socket
import ssl
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from client.node.fleet_client import tls_context
from server.deployment.nginx import reload_nginx, run_nginx
from server.deployment.provisioning.certificate_authority import issue, make_authority, pem
from server.deployment.provisioning.members import revoke, rotate
from shared.errors import RunError
from shared.runtime.children import listens
from shared.runtime.private_keys import new_key
from tests.hospitals import join
from tests.server.deployment.stand import (
    PULL,
    call,
    connection,
    make_consortium,
    post,
    reached,
    shown,
    signed,
    trusting,
    until_new_workers,
    workers,
)

REFUSED = 401
WORKERS = 2


def test_a_site_reaches_flower_with_its_own_certificate_and_key(fronted):
    assert call(fronted.consortium, "centre-a", body=b"asked") == (200, b"ok")
    assert reached(fronted) == [(PULL, b"asked")]


def test_plaintext_is_refused(fronted):
    with socket.create_connection(("127.0.0.1", fronted.consortium.port), timeout=5) as plain:
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed(fronted.consortium.site("centre-a")).items())
        plain.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 0\r\n\r\n".encode())
        assert plain.recv(100).startswith(b"HTTP/1.1 401")
    assert not reached(fronted)


def test_http_2_and_its_floods_of_streams_are_not_spoken(fronted):
    context = tls_context(fronted.consortium.site("centre-a"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", fronted.consortium.port), timeout=5)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as opened:
        assert opened.selected_alpn_protocol() == "http/1.1"
        reset = bytes.fromhex("00000403000000000100000008")  # RST_STREAM
        opened.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000") + reset * 100)
        assert opened.recv(100).startswith(b"HTTP/1.1 400")
    assert not reached(fronted)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_older_tls_is_refused_by_the_server(fronted, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = tls_context(fronted.consortium.site("centre-a"))
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse by itself
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        call(fronted.consortium, "centre-a", context=context)
    assert not reached(fronted)


def strangers(consortium):
    """Certificates that are not good, each listed as a site's own, so that nothing else about them is wrong."""
    today = datetime.now(UTC)
    other = make_authority("toy", 30, today)  # the same name, another key
    past = today - timedelta(days=30)

    def member(name, authority, days=20, now=today, role="site"):
        key = new_key()
        return key, issue(authority, role, name, key.public_key(), days, now, "127.0.0.1")

    own = make_authority("toy", 30, today)
    found = {
        "expired": member("expired", consortium.authority, days=20, now=past),
        "of-tomorrow": member("of-tomorrow", consortium.authority, now=today + timedelta(days=1)),
        "self-signed": (own.key, own.certificate),
        "of-another-authority": member("of-another-authority", other),
        "a-servers": member("a-servers", consortium.authority, role="server"),
        "good": member("good", consortium.authority),
    }
    for name, (_, certificate) in found.items():
        (consortium.kit.folder / "sites" / f"{name}.crt").write_bytes(pem(certificate))
        (consortium.kit.folder / "sites" / f"{name}.pub").write_bytes(
            (consortium.kit.folder / "sites" / "centre-a.pub").read_bytes()
        )
    return found


def test_a_certificate_that_is_expired_early_self_signed_foreign_or_a_servers_is_refused(own_front, tmp_path):
    stand = own_front()
    made = strangers(stand.consortium)
    reload_nginx(stand.consortium.kit, stand.process, "127.0.0.1")
    contexts = {name: shown(stand.consortium, tmp_path / name, *item) for name, item in made.items()}
    until_new_workers(lambda: call(stand.consortium, "centre-a", context=contexts["good"])[0] == 200)
    reached(stand)
    for name in made.keys() - {"good"}:
        assert call(stand.consortium, "centre-a", context=contexts[name])[0] == REFUSED, name
    assert not reached(stand)


def test_no_certificate_is_refused(fronted):
    assert call(fronted.consortium, "centre-a", context=trusting(fronted.consortium))[0] == REFUSED
    assert not reached(fronted)


def test_the_observers_certificate_does_not_open_the_fleet(fronted):
    context = trusting(fronted.consortium)
    context.load_cert_chain(
        fronted.consortium.root / "observer" / "observer.crt", fronted.consortium.root / "observer" / "observer.key"
    )
    assert call(fronted.consortium, "centre-a", context=context)[0] == REFUSED
    assert not reached(fronted)


@pytest.mark.parametrize(("shows", "signs"), [("centre-a", "centre-b"), ("centre-b", "centre-a")])
def test_a_site_cannot_use_its_certificate_with_another_sites_node_key(fronted, shows, signs):
    headers = signed(fronted.consortium.site(signs))
    assert call(fronted.consortium, shows, headers=headers)[0] == REFUSED
    assert not reached(fronted)


@pytest.mark.parametrize("last", ["centre-a", "centre-b"])
def test_with_two_node_keys_flower_is_given_the_one_that_was_looked_at(fronted, last):
    own, other = signed(fronted.consortium.site("centre-a")), signed(fronted.consortium.site("centre-b"))
    with connection(fronted.consortium.port, tls_context(fronted.consortium.site("centre-a"))) as opened:
        opened.putrequest("POST", PULL)
        for item in (own, other) if last == "centre-b" else (other, own):
            opened.putheader("flwr-public-key", item["flwr-public-key"])
        opened.putheader("content-length", "0")
        opened.endheaders()
        status = opened.getresponse().status
    assert [headers.get_all("flwr-public-key") for headers in fronted.headers] in ([], [[own["flwr-public-key"]]])
    assert bool(reached(fronted)) == (status == 200)


@pytest.mark.parametrize(
    "headers", [{}, {"flwr-public-key": ""}, {"flwr-public-key": "centre-a"}, {"flwr_public_key": "centre-a"}]
)
def test_a_call_without_a_node_key_is_refused(fronted, headers):
    assert call(fronted.consortium, "centre-a", headers=headers)[0] == REFUSED
    assert not reached(fronted)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-runs",
        "/v1/runtime/pull-task",
        "/",
        "/health",
        "/docs",
        "/openapi.json",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/x",
        "/v1/fleet/..%2fcontrol/start-run",
        "/v1/fleet/%2e%2e%2fcontrol%2fstart-run",
        "/v1/fleet/",
        "/v1/fleet/./pull-messages",
        "/v1/fleet/pull-messages?x=1",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull%2dmessages",
        "//v1/control/start-run",
        "/v1/control/start-run/../../fleet/pull-messages",
        "/v1/control/start-run%3f/../../fleet/pull-messages",
        "/v1/control/..%2ffleet/pull-messages",
        "/V1/CONTROL/start-run",
        "https://localhost/v1/control/start-run",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/register-node/",
        "/v1/fleet//register-node",
        "/v1/fleet/%72egister-node",
        "/v1/fleet/register-node?x=1",
    ],
)
def test_a_good_site_reaches_nothing_but_the_fleets_calls(fronted, path):
    assert call(fronted.consortium, "centre-a", path)[0] in {400, 403}
    assert not reached(fronted)


def test_another_method_is_refused(fronted):
    with connection(fronted.consortium.port, tls_context(fronted.consortium.site("centre-a"))) as opened:
        opened.request("GET", PULL, headers=signed(fronted.consortium.site("centre-a")))
        assert opened.getresponse().status == 403
    assert not reached(fronted)


def test_a_revoked_site_is_refused_at_the_next_call_of_its_open_connection(own_front):
    stand = own_front()
    consortium = stand.consortium
    kept, headers = consortium.site("centre-a"), signed(consortium.site("centre-a"))
    with connection(consortium.port, tls_context(kept)) as opened:
        assert post(opened, PULL, headers)[0] == 200
        socket_before = opened.sock
        assert post(opened, PULL, headers)[0] == 200
        assert opened.sock is socket_before
        revoke(consortium.root, "centre-a", datetime.now(UTC))
        before = workers(stand.process)
        reload_nginx(consortium.kit, stand.process, "127.0.0.1")
        until_new_workers(lambda: workers(stand.process) and not workers(stand.process) & before)
        reached(stand)
        try:
            status = post(opened, PULL, headers)[0]
        except (http.client.HTTPException, OSError):  # nginx closed it while idle
            opened.close()
            status = post(opened, PULL, headers)[0]
        assert status == REFUSED
    assert not reached(stand)
    assert call(consortium, "centre-b")[0] == 200


def test_the_list_of_revoked_certificates_alone_shuts_a_site_out(own_front):
    stand = own_front()
    consortium = stand.consortium
    listed = {path: path.read_bytes() for path in (consortium.kit.folder / "sites").glob("centre-a.*")}
    revoke(consortium.root, "centre-a", datetime.now(UTC))
    for path, content in listed.items():  # as if the kit had been copied without its sites folder
        path.write_bytes(content)
    reload_nginx(consortium.kit, stand.process, "127.0.0.1")
    until_new_workers(lambda: call(consortium, "centre-a")[0] == REFUSED)
    reached(stand)
    assert call(consortium, "centre-a")[0] == REFUSED
    assert not reached(stand)


def test_a_rotated_site_is_let_in_with_its_new_certificate_only(own_front):
    stand = own_front()
    consortium = stand.consortium
    old, headers = tls_context(consortium.site("centre-a")), signed(consortium.site("centre-a"))
    join(consortium.root, "centre-a")
    reload_nginx(consortium.kit, stand.process, "127.0.0.1")
    until_new_workers(lambda: call(consortium, "centre-a")[0] == 200)
    until_new_workers(lambda: call(consortium, "centre-a", context=old, headers=headers)[0] == REFUSED)
    # The new certificate does not carry the old node key on.
    assert call(consortium, "centre-a", headers=headers)[0] == REFUSED


def spoil_list(consortium):
    consortium.kit.revoked.write_bytes(consortium.kit.revoked.read_bytes()[:200])
    return consortium.kit.revoked.name


def forget_new_key(consortium):
    key = consortium.kit.certificate[1]
    old = key.read_bytes()
    rotate(consortium.root, "server", datetime.now(UTC))
    key.write_bytes(old)
    return key.name


@pytest.mark.parametrize("spoil", [spoil_list, forget_new_key])
def test_what_nginx_could_not_use_is_refused_in_its_words_and_it_goes_on_as_before(own_front, spoil):
    stand = own_front()
    kit = stand.consortium.kit
    conf = kit.state / "nginx" / "nginx.conf"
    until_new_workers(lambda: len(workers(stand.process)) == WORKERS)
    before, running = conf.read_bytes(), workers(stand.process)
    name = spoil(stand.consortium)
    with pytest.raises(RunError, match=rf"\[emerg\].*{name}"):
        reload_nginx(kit, stand.process, "127.0.0.1")
    assert conf.read_bytes() == before
    assert call(stand.consortium, "centre-b")[0] == 200
    assert workers(stand.process) == running


def test_workers_whose_master_was_killed_end_too_and_the_next_nginx_has_the_port(nginx, tmp_path):
    kit = make_consortium(tmp_path).kit
    with run_nginx(kit, os.environ, "127.0.0.1") as process:
        until_new_workers(lambda: workers(process))
        os.kill(int((kit.state / "nginx" / "nginx.pid").read_text()), signal.SIGKILL)
        process.wait(10)
        assert listens(kit.server.port)  # its workers go on
    with run_nginx(kit, os.environ, "127.0.0.1"):
        assert listens(kit.server.port)


def test_an_nginx_that_alone_outlived_its_server_makes_room_for_the_next(nginx, tmp_path):
    kit = make_consortium(tmp_path).kit
    with run_nginx(kit, os.environ, "127.0.0.1") as before:
        number = int((kit.state / "nginx" / "nginx.pid").read_text())
        os.kill(before.pid, signal.SIGKILL)
        before.wait(10)
        assert listens(kit.server.port)
        with run_nginx(kit, os.environ, "127.0.0.1"):
            assert int((kit.state / "nginx" / "nginx.pid").read_text()) != number
            assert listens(kit.server.port)
