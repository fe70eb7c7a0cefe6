"""The observers' port: TLS 1.2 or newer, nothing weak, and certificates that are good on both sides (48, 54)."""

import socket
import ssl
import threading
import warnings
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA384

from server.deployment.provisioning.certificate_authority import issue, make_authority, pem
from server.monitoring.status_client import look, read_observer
from server.monitoring.status_service import serve_status
from shared.errors import RunError
from shared.runtime.private_keys import new_key, private_pem
from tests.server.deployment.stand import make_consortium, trusting
from tests.server.deployment.test_tls_scan import STRONG, needs, nothing_weak, scanned

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # RFC 9113, 3.4: with empty settings
STRONG_1_2 = {f"ECDHE-ECDSA-{name}" for name in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")}


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return make_consortium(tmp_path_factory.mktemp("consortium"))


@pytest.fixture
def service(consortium, tmp_path):
    server = serve_status(consortium.kit.folder, tmp_path, "127.0.0.1", consortium.kit.server.status_port)
    yield server
    server.stop(None).wait(5)


@pytest.fixture
def observer(consortium):
    return read_observer(consortium.root / "observer")


def greet(consortium, context):
    """How a greeting in HTTP/2 is answered: with the server's settings, or with nothing."""
    with (
        socket.create_connection(("127.0.0.1", consortium.kit.server.status_port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") if context else nullcontext(plain) as opened,
    ):
        opened.sendall(PREFACE)
        return opened.recv(100)[3:4]


def speaking(consortium, version):
    """An observer's context that speaks one version of TLS, with whatever cipher."""
    context = trusting(consortium)
    folder = consortium.root / "observer"
    context.load_cert_chain(folder / "observer.crt", folder / "observer.key")
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse by itself
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


def spoken_by_a_lax_server(consortium, context):
    """The version of TLS in which a server that takes every one is spoken to: so this side is able to."""
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.load_cert_chain(*consortium.kit.certificate)
    lax.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lax.minimum_version = ssl.TLSVersion.TLSv1
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: lax.wrap_socket(listening.accept()[0], server_side=True).close())
        thread.start()
        with (
            socket.create_connection(listening.getsockname(), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as opened,
        ):
            found = opened.version()
        thread.join(timeout=5)
    return found


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_older_tls_is_refused_by_the_server(service, consortium, version):
    context = speaking(consortium, getattr(ssl.TLSVersion, version))
    assert spoken_by_a_lax_server(consortium, context).replace(".", "_") == version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        greet(consortium, context)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_1_2_and_1_3_are_spoken(service, consortium, version):
    assert greet(consortium, speaking(consortium, getattr(ssl.TLSVersion, version))) == b"\x04"


def test_plaintext_is_refused(service, consortium):
    with suppress(ConnectionError):
        assert greet(consortium, None) == b""


def signed_by_itself(like):
    """A key, and a certificate that is as another one but for who signed it."""
    key = new_key()
    builder = x509.CertificateBuilder().subject_name(like.subject).issuer_name(like.subject)
    builder = builder.public_key(key.public_key()).serial_number(like.serial_number)
    builder = builder.not_valid_before(like.not_valid_before_utc).not_valid_after(like.not_valid_after_utc)
    for item in like.extensions:
        if not isinstance(item.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(item.value, item.critical)
    return key, builder.sign(key, SHA384())


def member(consortium, kind, role, address=""):
    """A key and a certificate, with one thing wrong about it or none."""
    key = new_key()
    now = datetime.now(UTC)
    authority = make_authority("toy", 30, now) if kind == "of-another-authority" else consortium.authority
    now += {"expired": timedelta(days=-30), "of-tomorrow": timedelta(days=1)}.get(kind, timedelta())
    certificate = issue(authority, role, role, key.public_key(), 20, now, address)
    return signed_by_itself(certificate) if kind == "self-signed" else (key, certificate)


WRONG = ["expired", "of-tomorrow", "of-another-authority", "self-signed"]


@pytest.mark.parametrize("kind", ["good", *WRONG])
def test_an_observer_is_let_in_with_a_good_certificate_only(service, consortium, observer, kind):
    key, certificate = member(consortium, kind, "observer")
    shows = replace(observer, certificate=pem(certificate), key=private_pem(key))
    if kind == "good":
        assert look(shows, None)[0]["state"] == "waiting"
    else:
        with pytest.raises(RunError, match="no connection"):
            look(shows, None)


@pytest.mark.parametrize("kind", ["good", *WRONG, "of-another-name", "site", "observer"])
def test_an_observer_refuses_a_server_whose_certificate_is_not_good(tmp_path, monkeypatch, kind):
    here = "127.0.0.2"  # a server's certificate holds for 127.0.0.1 in any case
    monkeypatch.setenv("no_grpc_proxy", here)
    consortium = make_consortium(tmp_path)
    role = kind if kind in {"site", "observer"} else "server"
    key, certificate = member(consortium, kind, role, "other.example.org" if kind == "of-another-name" else here)
    for path, content in zip(consortium.kit.certificate, (pem(certificate), private_pem(key)), strict=True):
        path.write_bytes(content)
    observer = replace(read_observer(consortium.root / "observer"), host=here)
    server = serve_status(consortium.kit.folder, tmp_path, here, observer.port)
    try:
        if kind == "good":
            assert look(observer, None)[0]["state"] == "waiting"
        else:
            with pytest.raises(RunError, match="Hostname" if kind == "of-another-name" else "CERTIFICATE_VERI"):
                look(observer, None)
    finally:
        server.stop(None).wait(5)


@pytest.mark.slow
def test_sslscan_finds_nothing_weak(service, consortium):
    needs("sslscan")
    folder = consortium.root / "observer"  # TLS 1.2 tells its cipher to whom it knows only
    found = scanned(
        consortium.kit.server.status_port, f"--certs={folder / 'observer.crt'}", f"--pk={folder / 'observer.key'}"
    )
    nothing_weak(found, {"TLSv1.2": STRONG_1_2, "TLSv1.3": STRONG})
