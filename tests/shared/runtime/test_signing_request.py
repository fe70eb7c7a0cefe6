"""A hospital's signing request: proof that it holds both keys, and nothing in it that `join` does not write."""

import base64
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.runtime.exchange import public_bytes
from shared.runtime.private_keys import new_key
from shared.runtime.signing_request import LARGEST_REQUEST, SigningRequest, read_request, site_name, write_request

SITE, NODE = new_key(), new_key()
GOOD = write_request("centre-a", SITE, NODE)
OU, CN, O = NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741


def part(*subject, key=SITE, algorithm=hashes.SHA384(), change=lambda builder: builder, form=None):  # noqa: B008
    """One half of a request, as a stranger would make it."""
    name = x509.Name(
        [x509.NameAttribute(oid, text, form) if form else x509.NameAttribute(oid, text) for oid, text in subject]
    )
    builder = change(x509.CertificateSigningRequestBuilder().subject_name(name))
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def node(**options):
    return part((OU, "node"), (CN, "centre-a"), **{"key": NODE} | options)


def site(**options):
    return part((OU, "site"), (CN, "centre-a"), **options)


def test_what_is_written_is_read_and_may_have_the_line_ends_of_a_mail():
    for content in (GOOD, GOOD.replace(b"\n", b"\r\n"), site() + node()):
        request = read_request(content)
        assert request == SigningRequest("centre-a", SITE.public_key(), NODE.public_key())
    assert len(GOOD) < LARGEST_REQUEST / 4


@pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl command is not installed")
def test_openssl_reads_both_halves_and_verifies_them():
    for half, unit in zip(GOOD.split(b"-----END CERTIFICATE REQUEST-----\n"), ("site", "node"), strict=False):
        done = subprocess.run(
            ["openssl", "req", "-verify", "-noout", "-subject"],
            input=half + b"-----END CERTIFICATE REQUEST-----\n", capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout.decode().strip() == f"subject=OU = {unit}, CN = centre-a"
        assert b"verify OK" in done.stderr


def test_the_fingerprint_is_of_name_and_both_keys():
    a, b = SITE.public_key(), NODE.public_key()
    requests = [
        SigningRequest("centre-a", a, b), SigningRequest("centre-b", a, b), SigningRequest("centre-a", b, a),
        SigningRequest("centre-a", new_key().public_key(), b), SigningRequest("centre-a", a, new_key().public_key()),
    ]  # fmt: skip
    assert len({item.fingerprint for item in requests}) == len(requests)
    # And of nothing else: the same keys, signed anew, are the same request.
    again = write_request("centre-a", SITE, NODE)
    assert again != GOOD
    assert read_request(again).fingerprint == read_request(GOOD).fingerprint == requests[0].fingerprint


RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is why
SUBJECTS = {
    "another unit": ((OU, "server"), (CN, "centre-a")),
    "the authority": ((OU, "authority"), (CN, "centre-a")),
    "a consortium": ((O, "toy"), (OU, "site"), (CN, "centre-a")),
    "another order": ((CN, "centre-a"), (OU, "site")),
    "no unit": ((CN, "centre-a"),),
    "two names": ((OU, "site"), (CN, "centre-a"), (CN, "centre-b")),
    "nothing": (),
    "an escape": ((OU, "site"), (CN, "centre-a\x1b[31m")),
    "a line break": ((OU, "site"), (CN, "centre-a\nCN=centre-b")),
    "a mark of direction": ((OU, "site"), (CN, "\u202ecentre-a")),
    "a zero": ((OU, "site"), (CN, "centre-a\0")),
    "another alphabet": ((OU, "site"), (CN, "\u0441entre-a")),
    "a path": ((OU, "site"), (CN, "../server")),
    "capitals": ((OU, "site"), (CN, "Centre-A")),
    "a long name": ((OU, "site"), (CN, "a" * 33)),
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_another_subject_is_refused_in_words_that_control_no_terminal(subject):
    with pytest.raises(ConfigError) as error:
        read_request(part(*subject) + node())
    assert str(error.value).isprintable()
    assert "\x1b" not in str(error.value)


def extended(extension):
    return {"change": lambda builder: builder.add_extension(extension, critical=True)}


FAULTS = {
    "an alternative name": site(**extended(x509.SubjectAlternativeName([x509.DNSName("fed.example.org")]))) + node(),
    "an authority": site(**extended(x509.BasicConstraints(ca=True, path_length=None))) + node(),
    "another extension": site() + node(**extended(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]))),
    "an attribute": site(change=lambda builder: builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"x")) + node(),
    "another encoding of the name": site(form=_ASN1Type.PrintableString) + node(),
    "P-256": site(key=ec.generate_private_key(ec.SECP256R1())) + node(),
    "P-521": site(key=ec.generate_private_key(ec.SECP521R1())) + node(),
    "another curve": site(key=ec.generate_private_key(ec.SECP256K1())) + node(),
    "a node key on P-256": site() + node(key=ec.generate_private_key(ec.SECP256R1())),
    "RSA": site(key=RSA) + node(),
    "Ed25519": site(key=ed25519.Ed25519PrivateKey.generate(), algorithm=None) + node(),
    "SHA-256": site(algorithm=hashes.SHA256()) + node(),
    "one key twice": site() + node(key=SITE),
    "the halves of two names": site() + part((OU, "node"), (CN, "centre-b"), key=NODE),
    "the wrong order": node() + site(),
    "one half": site(),
    "one half twice": site() + site(),
    "three": site() + node() + node(),
    "text before": b"hello\n" + GOOD,
    "text between": site() + b"hello\n" + node(),
    "text after": GOOD + b"\x1b[31m",
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "a certificate's name": GOOD.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
    "half a file": GOOD[: len(GOOD) // 2],
    "bytes": bytes(range(256)),
    "nothing": b"",
}


@pytest.mark.parametrize("content", FAULTS.values(), ids=FAULTS)
def test_whatever_join_does_not_write_is_refused_with_the_remedy(content):
    with pytest.raises(ConfigError, match="fedbreast join") as error:
        read_request(content)
    assert str(error.value).isprintable()


def der(content):
    lines = content.splitlines()
    return base64.b64decode(b"".join(lines[1:-1]))


def pem(content):
    body = base64.encodebytes(content)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("half", ["site", "node"])
def test_who_does_not_hold_a_key_cannot_ask_with_it(half):
    """A stranger knows a hospital's public keys, and signs with his own."""
    own, known = new_key(), {"site": SITE, "node": NODE}[half]
    made = {"site": site, "node": node}[half](key=own)
    stolen = pem(der(made).replace(public_bytes(own.public_key()), public_bytes(known.public_key())))
    assert x509.load_pem_x509_csr(stolen).public_key() == known.public_key()
    with pytest.raises(ConfigError, match="not signed with its own key"):
        read_request(stolen + node() if half == "site" else site() + stolen)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_changes_nothing(place, value):
    content = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    try:
        assert read_request(content) == read_request(GOOD)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017


@settings(max_examples=300)
@given(st.sampled_from(["site", "node"]), st.integers(0, 500), st.integers(0, 255))
@example("site", 6, 3)  # a version that does not exist
@example("site", 11, 0)  # the first part of the subject has no length
def test_so_is_one_changed_byte_behind_the_pem(half, place, value):
    halves = {"site": site(), "node": node()}
    content = der(halves[half])
    place %= len(content)
    halves[half] = pem(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        assert read_request(halves["site"] + halves["node"]) == read_request(GOOD)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize("name", ["", "Centre", "a b", "-a", "a" * 33, "a/b", "..", "a\n", "\x1b[2J", "é"])
def test_what_cannot_be_a_sites_name_is_refused_with_the_rule(name):
    with pytest.raises(ConfigError, match="cannot be a site's name: small letters, digits and hyphens") as error:
        site_name(name)
    assert str(error.value).isprintable()
    assert site_name("centre-a") == "centre-a"
