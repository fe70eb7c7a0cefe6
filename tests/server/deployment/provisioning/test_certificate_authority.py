"""Certificates as others read them: OpenSSL's command line and real handshakes of Python's ssl."""

import contextlib
import json
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.deployment.provisioning.certificate_authority import issue, load_authority, make_authority
from server.deployment.provisioning.members import provision, revoke, rotate
from shared.errors import ConfigError
from shared.runtime.private_keys import new_key
from tests.hospitals import join, make_consortium_with_hospitals

openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl command is not installed")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def verify(root, certificate, purpose, *options):
    kit = root / "server" / "certificates"
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CAfile",
        kit / "ca.crt",
        "-CRLfile",
        kit / "crl.pem",
    ]
    done = subprocess.run(
        [*command, "-purpose", purpose, *options, certificate], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@openssl
def test_openssl_accepts_every_certificate_strictly_and_for_its_purpose_alone(made):
    purposes = {"server/certificates/server.crt": "sslserver", "observer/observer.crt": "sslclient"}
    purposes |= {f"{name}/certificates/site.crt": "sslclient" for name in ("centre-a", "centre-b")}
    for path, purpose in purposes.items():
        code, said = verify(made, made / path, purpose)
        assert code == 0, said
        other = "sslclient" if purpose == "sslserver" else "sslserver"
        assert verify(made, made / path, other)[0], path


@openssl
@pytest.mark.parametrize("name", ["fed.example.org", "localhost"])
def test_openssl_finds_the_servers_names_in_its_certificate(made, name):
    certificate = made / "server/certificates/server.crt"
    assert verify(made, certificate, "sslserver", "-verify_hostname", name)[0] == 0
    assert verify(made, certificate, "sslserver", "-verify_ip", "127.0.0.1")[0] == 0
    assert verify(made, certificate, "sslserver", "-verify_hostname", f"x{name}")[0]


@openssl
def test_openssl_refuses_a_revoked_certificate_and_no_other(own):
    revoke(own, "centre-a", datetime.now(UTC))
    code, said = verify(own, own / "centre-a/certificates/site.crt", "sslclient")
    assert code
    assert "revoked" in said
    assert verify(own, own / "centre-b/certificates/site.crt", "sslclient")[0] == 0


def test_certificates_have_the_contracts_fields(made):
    ca = x509.load_pem_x509_certificate((made / "authority/ca.crt").read_bytes())
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    # The last is for the signature of kits.
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, True)
    site = x509.load_pem_x509_certificate((made / "centre-a/certificates/site.crt").read_bytes())
    assert site.subject.rfc4514_string() == "CN=centre-a,OU=site,O=toy"
    assert not site.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(site.public_key().curve, ec.SECP384R1)
    assert site.not_valid_after_utc - datetime.now(UTC) > timedelta(days=364)
    issued = json.loads((made / "authority/issued.json").read_text())
    assert {item["serial"] for item in issued} >= {f"{site.serial_number:x}"}
    assert len({item["serial"] for item in issued}) == 4
    assert set(issued[0]) == {"role", "name", "serial", "fingerprint", "keys", "from", "until", "revoked"}


def handshake(server, client, host="fed.example.org"):
    """Both sides of a TLS connection in memory; raises what the first to refuse raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.remove(end)
    assert not waiting
    # TLS 1.3: a client learns at its first read that its certificate was refused.
    with contextlib.suppress(ssl.SSLWantReadError):
        ends[0].read()
    return ends[1].getpeercert()


def context(root, purpose, certificate, key, *, ca=None, crl=False):
    made = ssl.SSLContext(purpose)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(ca or root / "server/certificates/ca.crt")
    made.load_cert_chain(root / certificate, root / key)
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    if crl:
        made.load_verify_locations(root / "server/certificates/crl.pem")
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return made


def server_side(root, certificate="server/certificates/server.crt", key="server/keys/server.key", **options):
    return context(root, ssl.PROTOCOL_TLS_SERVER, certificate, key, **options)


def site_side(root, name="centre-a", **options):
    return context(root, ssl.PROTOCOL_TLS_CLIENT, f"{name}/certificates/site.crt", f"{name}/keys/site.key", **options)


@pytest.mark.parametrize("host", ["fed.example.org", "localhost", "127.0.0.1"])
def test_server_and_site_meet_and_the_server_learns_the_sites_name(made, host):
    peer = handshake(server_side(made, crl=True), site_side(made), host)
    subject = {key: value for part in peer["subject"] for key, value in part}
    assert subject == {"organizationName": "toy", "organizationalUnitName": "site", "commonName": "centre-a"}


def test_a_site_refuses_a_server_under_another_name(made):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server_side(made), site_side(made), "evil.example.org")


def test_scenario_48_a_member_of_another_consortium_is_refused_on_either_side(made, tmp_path):
    make_consortium_with_hospitals(made.parent / "toy.toml", tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_side(tmp_path / "other"), site_side(made))
    theirs = tmp_path / "other/server/certificates/ca.crt"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_side(made), site_side(tmp_path / "other", ca=made / "authority/ca.crt"))
    handshake(server_side(made, ca=theirs), site_side(tmp_path / "other", ca=made / "authority/ca.crt"))


def test_a_sites_certificate_cannot_serve(made):
    posing = server_side(made, "centre-b/certificates/site.crt", "centre-b/keys/site.key")
    client = site_side(made)
    client.check_hostname = False  # so that its purpose alone is checked
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(posing, client)


def test_the_servers_certificate_cannot_connect(made):
    posing = context(made, ssl.PROTOCOL_TLS_CLIENT, "server/certificates/server.crt", "server/keys/server.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(server_side(made), posing)


@pytest.mark.parametrize("change", [revoke, join])
def test_scenario_49_a_certificate_from_before_is_refused_once_the_list_is_loaded(made, own, change):
    change(own, "centre-a", datetime.now(UTC))
    handshake(server_side(own), site_side(made))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        handshake(server_side(own, crl=True), site_side(made))
    handshake(server_side(own, crl=True), site_side(own, "centre-b"))


def test_rotated_credentials_meet(own):
    join(own, "centre-a")
    rotate(own, "server", datetime.now(UTC))
    handshake(server_side(own, crl=True), site_side(own))


def test_no_certificate_outlives_its_authority_and_none_is_signed_after_its_end():
    authority = make_authority("toy", 10, NOW)
    public = new_key().public_key()
    certificate = issue(authority, "site", "a", public, 365, NOW)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=10)
    with pytest.raises(ConfigError, match="expired on 2030-01-11"):
        issue(authority, "site", "a", public, 365, NOW + timedelta(days=10))


def test_a_certificate_holds_for_clocks_that_are_behind():
    certificate = issue(make_authority("toy", 10, NOW), "site", "a", new_key().public_key(), 5, NOW)
    assert certificate.not_valid_before_utc <= NOW - timedelta(minutes=30)


def test_an_authority_whose_halves_do_not_fit_is_refused(own, made, tmp_path):
    provision(made.parent / "toy.toml", tmp_path / "other", NOW)
    shutil.copy(tmp_path / "other/authority/ca.key", own / "authority/ca.key")
    with pytest.raises(ConfigError, match=r"ca\.key does not belong to ca\.crt"):
        load_authority(own / "authority")
    (own / "authority/ca.key").unlink()
    with pytest.raises(ConfigError, match="kept offline"):
        load_authority(own / "authority")
