"""A hospital's node in front of servers that are not the consortium's (scenario 48)."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from client.node import tls_context
from server.provisioning.authority import issue, make_authority, new_key, pem, private_pem
from tests.server.serving.stand import make_consortium

NOW = datetime.now(UTC)
SERVERS = {
    "good": (lambda authority, key: issue(authority, "server", "server", key, 20, NOW, "fed.example.org"), None),
    "expired": (
        lambda authority, key: issue(
            authority, "server", "server", key, 20, NOW - timedelta(days=30), "fed.example.org"
        ),
        "has expired",
    ),
    "of-another-name": (
        lambda authority, key: issue(authority, "server", "server", key, 20, NOW, "other.example.org"),
        "Hostname mismatch",
    ),
    "of-another-authority": (
        lambda _, key: issue(make_authority("toy", 30, NOW), "server", "server", key, 20, NOW, "fed.example.org"),
        "certificate verify failed",
    ),
    # A hospital of the consortium that plays the server to another one.
    "a-sites": (lambda authority, key: issue(authority, "site", "centre-b", key, 20, NOW), "unsuitable certificate"),
}


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return make_consortium(tmp_path_factory.mktemp("consortium"))


@pytest.mark.parametrize("kind", [*SERVERS, "self-signed"])
def test_a_site_refuses_a_server_whose_certificate_is_not_good(consortium, tmp_path, kind):
    key = new_key()
    if kind == "self-signed":
        own = make_authority("toy", 30, NOW)
        key, certificate, why = own.key, own.certificate, "self-signed certificate"
    else:
        make, why = SERVERS[kind]
        certificate = make(consortium.authority, key.public_key())
    (tmp_path / "own.key").write_bytes(private_pem(key))
    (tmp_path / "own.crt").write_bytes(pem(certificate))
    place = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    place.load_cert_chain(tmp_path / "own.crt", tmp_path / "own.key")
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            plain, _ = listening.accept()
            try:
                with place.wrap_socket(plain, server_side=True) as opened:
                    heard.append(opened.recv(100))
            except OSError:
                plain.close()

        thread = threading.Thread(target=answer)
        thread.start()
        plain = socket.create_connection(listening.getsockname(), timeout=5)
        context = tls_context(consortium.site("centre-a"))
        if why is None:
            with context.wrap_socket(plain, server_hostname="fed.example.org") as opened:
                assert opened.version() == "TLSv1.3"
                opened.sendall(b"weights")
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                context.wrap_socket(plain, server_hostname="fed.example.org")
            plain.close()
        thread.join(timeout=5)
    assert b"".join(heard) == (b"weights" if why is None else b"")
