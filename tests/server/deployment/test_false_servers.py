"""A hospital's node in front of servers that are not the consortium's (scenario 48)."""

import socket
import ssl
import threading
import warnings
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from client.node.fleet_client import tls_context
from server.deployment.provisioning.certificate_authority import issue, make_authority, pem
from shared.runtime.private_keys import new_key, private_pem
from tests.server.deployment.stand import make_consortium


def issued(role="server", name="server", address="fed.example.org", *, days_ago=0, foreign=False):
    """Makes a certificate of the consortium's authority, or of a `foreign` one of the same name."""

    def make(authority, key):
        now = datetime.now(UTC)
        by = make_authority("toy", 30, now) if foreign else authority
        return issue(by, role, name, key, 20, now - timedelta(days=days_ago), address)

    return make


SERVERS = {
    "good": (issued(), None),
    "expired": (issued(days_ago=30), "has expired"),
    "of-another-name": (issued(address="other.example.org"), "Hostname mismatch"),
    "of-another-authority": (issued(foreign=True), "certificate verify failed"),
    # A hospital of the consortium that plays the server to another one.
    "a-sites": (issued("site", "centre-b", ""), "unsuitable certificate"),
}


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return make_consortium(tmp_path_factory.mktemp("consortium"))


@contextmanager
def server(answer):
    """Listen for one connection and hand it over; yields the address, and what `answer` heard there."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            plain, _ = listening.accept()
            with plain, suppress(OSError):
                heard.append(answer(plain))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname(), heard
        thread.join(timeout=5)


def presenting(folder, key, certificate):
    """What a server shows that has this key and certificate."""
    (folder / "own.key").write_bytes(private_pem(key))
    (folder / "own.crt").write_bytes(pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "own.crt", folder / "own.key")
    return context


def listen(context):
    def answer(plain):
        with context.wrap_socket(plain, server_side=True) as opened:
            return opened.recv(100)

    return answer


@pytest.mark.parametrize("kind", [*SERVERS, "self-signed"])
def test_a_site_refuses_a_server_whose_certificate_is_not_good(consortium, tmp_path, kind):
    key = new_key()
    if kind == "self-signed":
        own = make_authority("toy", 30, datetime.now(UTC))
        key, certificate, why = own.key, own.certificate, "self-signed certificate"
    else:
        make, why = SERVERS[kind]
        certificate = make(consortium.authority, key.public_key())
    context = tls_context(consortium.site("centre-a"))
    with server(listen(presenting(tmp_path, key, certificate))) as (address, heard):
        plain = socket.create_connection(address, timeout=5)
        if why is None:
            with context.wrap_socket(plain, server_hostname="fed.example.org") as opened:
                assert opened.version() == "TLSv1.3"
                opened.sendall(b"weights")
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                context.wrap_socket(plain, server_hostname="fed.example.org")
            plain.close()
    assert heard == ([b"weights"] if why is None else [])


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_a_site_refuses_a_server_that_speaks_older_tls(consortium, tmp_path, version):
    key = new_key()
    certificate = SERVERS["good"][0](consortium.authority, key.public_key())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = presenting(tmp_path, key, certificate)
        old.minimum_version = old.maximum_version = getattr(ssl.TLSVersion, version)
    old.set_ciphers("ALL:@SECLEVEL=0")  # else that server would refuse by itself
    with (
        server(listen(old)) as (address, heard),
        socket.create_connection(address, timeout=5) as plain,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        tls_context(consortium.site("centre-a")).wrap_socket(plain, server_hostname="fed.example.org")
    assert not heard


def test_a_site_tells_a_plaintext_server_nothing(consortium):
    def answer(plain):
        said = plain.recv(65536)
        plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        with suppress(OSError):
            said += plain.recv(65536)
        return said

    with (
        server(answer) as (address, heard),
        socket.create_connection(address, timeout=5) as plain,
        pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"),
    ):
        tls_context(consortium.site("centre-a")).wrap_socket(plain, server_hostname="fed.example.org")
    (sent,) = heard
    assert sent.startswith(b"\x16\x03")  # a handshake's first record, and what TLS says of the fault
    assert b"centre-a" not in sent
    assert b"flwr" not in sent
