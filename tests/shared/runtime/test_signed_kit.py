"""A hospital's kit on its way: whoever changes it, or sends one of his own, is noticed."""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from server.deployment.provisioning.certificate_authority import issue, make_authority, pem
from shared.errors import ConfigError
from shared.runtime.exchange import authority_fingerprint
from shared.runtime.private_keys import new_key
from shared.runtime.signed_kit import AUTHORITY, CERTIFICATE, open_kit, sign_kit

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OURS, THEIRS = (make_authority("toy", 100, NOW) for _ in range(2))
TOLD = authority_fingerprint(OURS.certificate)


def files(authority):
    certificate = issue(authority, "site", "centre-a", new_key().public_key(), 10, NOW)
    texts = {AUTHORITY: pem(authority.certificate).decode(), CERTIFICATE: pem(certificate).decode()}
    return texts | {"node.toml": "[server]\n", "compose.yaml": "services: {}\n", "README.md": "# Kit é\n"}


FILES = files(OURS)
GOOD = sign_kit("centre-a", "12345", FILES, OURS.key)


def changed(**values):
    return json.dumps(json.loads(GOOD) | values).encode()


def test_a_kit_opens_as_it_was_signed_and_holds_no_secret():
    kit = open_kit(GOOD, TOLD)
    assert (kit.site, kit.request, kit.files) == ("centre-a", "12345", FILES)
    assert b"PRIVATE" not in GOOD


def test_how_the_json_is_laid_out_does_not_matter():
    assert open_kit(json.dumps(json.loads(GOOD)).encode(), TOLD) == open_kit(GOOD, TOLD)


def test_another_consortiums_kit_is_refused_by_the_fingerprint_that_was_told():
    """All of it is the stranger's, and signed by him without a fault."""
    with pytest.raises(ConfigError, match="the consortium that signed this kit has the fingerprint"):
        open_kit(sign_kit("centre-a", "12345", files(THEIRS), THEIRS.key), TOLD)


@pytest.mark.parametrize(
    "content",
    [
        changed(site="centre-b"),
        changed(request="12346"),
        changed(files=FILES | {"node.toml": '[server]\naddress = "evil.example.org"\n'}),
        changed(files=FILES | {"compose.yaml": "services: {x: {privileged: true}}\n"}),
        changed(files=FILES | {"README.md": ""}),
        changed(files=FILES | {CERTIFICATE: files(THEIRS)[CERTIFICATE]}),
        changed(signature=""),
        changed(signature="00"),
        changed(signature=json.loads(sign_kit("centre-a", "12345", FILES, THEIRS.key))["signature"]),
    ],
)
def test_a_change_of_any_part_is_refused(content):
    with pytest.raises(ConfigError, match="was changed after the consortium's authority had signed it"):
        open_kit(content, TOLD)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        changed(more=1),
        changed(site="../centre-b"),
        changed(site=7),
        changed(signature="no hex"),
        changed(files={}),
        changed(files=FILES | {"keys/site.key": "x"}),
        changed(files=FILES | {"../../.ssh/authorized_keys": "x"}),
        changed(files={name: text for name, text in FILES.items() if name != "README.md"}),
        changed(files=FILES | {AUTHORITY: "x"}),
        changed(files=FILES | {"README.md": None}),
    ],
)
def test_what_is_no_kit_is_refused_in_one_line(content):
    with pytest.raises(
        ConfigError, match=r"^this is no kit of `fedbreast admit`, or a damaged one: have it sent again$"
    ):
        open_kit(content, TOLD)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_changes_nothing(place, value):
    try:
        assert open_kit(GOOD[:place] + bytes([value]) + GOOD[place + 1 :], TOLD).files == FILES
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017


def test_an_authority_with_another_kind_of_key_signs_nothing(monkeypatch):
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509 import CertificateBuilder

    key = rsa.generate_private_key(65537, 2048)
    subject = OURS.certificate.subject
    builder = CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(datetime(2031, 1, 1, tzinfo=UTC))
    certificate = builder.sign(key, hashes.SHA384())
    content = changed(files=FILES | {AUTHORITY: pem(certificate).decode()})
    with pytest.raises(ConfigError, match="was changed"):
        open_kit(content, authority_fingerprint(certificate))


@pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl command is not installed")
def test_openssl_verifies_the_signature_too(tmp_path):
    """What is signed, put together by hand from the file."""
    kit = json.loads(GOOD)
    (tmp_path / "signature").write_bytes(bytes.fromhex(kit.pop("signature")))
    text = json.dumps(kit, sort_keys=True, separators=(",", ":"))
    (tmp_path / "signed").write_bytes(b"fedbreast kit\n" + text.encode())
    (tmp_path / "ca.crt").write_text(FILES[AUTHORITY])
    public = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "ca.crt", "-pubkey", "-noout"], capture_output=True, check=True
    )
    (tmp_path / "public").write_bytes(public.stdout)
    done = subprocess.run(
        ["openssl", "dgst", "-sha384", "-verify", tmp_path / "public", "-signature", tmp_path / "signature",
         tmp_path / "signed"], capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"Verified OK\n"
