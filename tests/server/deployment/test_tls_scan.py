"""The open port as a scanner sees it: TLS 1.3 alone, nothing weak, a P-384 key (scenario 54).

`sslscan` looks from outside, without a certificate of the consortium; where it is not installed that test skips, and
`openssl s_client` asks one protocol after the other.
"""

import shutil
import ssl
import subprocess
from xml.etree import ElementTree as ET

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from client.node.fleet_client import tls_context

OLDER = ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2")
STRONG = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}  # RFC 8446, all of AEAD


def needs(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install {name} to run this test")


def scanned(port, *options):
    """What sslscan finds at a port."""
    done = subprocess.run(
        ["sslscan", "--xml=-", "--no-colour", *options, f"127.0.0.1:{port}"],
        capture_output=True, text=True, check=True, timeout=80,
    )  # fmt: skip
    return ET.fromstring(done.stdout).find("ssltest")  # noqa: S314 - our own scanner's


def nothing_weak(found, strong):
    """Assert that these protocols are spoken with none but these ciphers, and that nothing else is amiss."""
    enabled = {f"{item.get('type').upper()}v{item.get('version')}" for item in found.iter("protocol")
               if item.get("enabled") == "1"}  # fmt: skip
    assert enabled == set(strong)
    ciphers = {(item.get("sslversion"), item.get("cipher")) for item in found.iter("cipher")}
    assert {version for version, _ in ciphers} == set(strong)
    assert ciphers <= {(version, name) for version, names in strong.items() for name in names}
    assert not [item for item in found.iter("heartbleed") if item.get("vulnerable") != "0"]
    assert not [item for item in found.iter("compression") if item.get("supported") != "0"]
    assert not [item for item in found.iter("renegotiation") if item.get("supported") == "1"]
    weak = [item.get("name") for item in found.iter("group") if int(item.get("bits", 0)) < 112]
    assert not weak


@pytest.mark.slow
def test_sslscan_finds_nothing_weak(fronted):
    needs("sslscan")
    nothing_weak(scanned(fronted.consortium.port), {"TLSv1.3": STRONG})


@pytest.mark.parametrize("protocol", ["-tls1", "-tls1_1", "-tls1_2"])
def test_openssl_is_refused_with_every_older_protocol(fronted, protocol):
    needs("openssl")
    done = s_client(fronted, protocol, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in done  # the server's word, not this side's


def test_openssl_is_let_in_with_tls_1_3_and_no_weak_cipher_of_it(fronted):
    needs("openssl")
    assert "Cipher is TLS_AES_256_GCM_SHA384" in s_client(fronted, "-tls1_3")
    for weak in ("TLS_AES_128_CCM_8_SHA256", "TLS_AES_128_CCM_SHA256"):
        assert "alert handshake failure" in s_client(fronted, "-tls1_3", "-ciphersuites", weak)


def test_nothing_is_compressed_and_no_session_is_taken_up_again(fronted, tmp_path):
    needs("openssl")
    assert "Compression: NONE" in s_client(fronted, "-tls1_3", "-comp")
    # A resumed session would skip the list of revoked certificates. The request is refused for its path: by then
    # whatever the server hands out for a later session has come.
    asked = {"said": "GET / HTTP/1.0\r\n\r\n"}
    kept = tmp_path / "session"
    assert "HTTP/1.1 4" in s_client(fronted, "-tls1_3", "-ign_eof", "-sess_out", str(kept), **asked)
    later = s_client(fronted, "-tls1_3", "-ign_eof", *(["-sess_in", str(kept)] if kept.exists() else []), **asked)
    assert "HTTP/1.1 4" in later
    assert "New, TLSv1.3" in later
    assert "Reused" not in later


def test_the_server_shows_a_p384_key_signed_with_sha384(fronted):
    context = tls_context(fronted.consortium.site("centre-a"))
    import socket

    with (
        socket.create_connection(("127.0.0.1", fronted.consortium.port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as opened,
    ):
        certificate = x509.load_der_x509_certificate(opened.getpeercert(binary_form=True))
        assert opened.version() == "TLSv1.3"
        assert opened.compression() is None
        assert ssl.HAS_TLSv1_3
    assert isinstance(certificate.public_key().curve, ec.SECP384R1)
    assert certificate.signature_hash_algorithm.name == "sha384"


def s_client(fronted, *options, said="Q\n"):
    kit = fronted.consortium.site("centre-a")
    certificate, key = kit.certificate
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{fronted.consortium.port}", "-CAfile", str(kit.authority),
         "-cert", str(certificate), "-key", str(key), *options],
        input=said, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return done.stdout + done.stderr
