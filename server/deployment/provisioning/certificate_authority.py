"""The consortium's certificate authority: keys, certificates and the list of revoked certificates (RFC 5280).

All keys are ECDSA on P-384. The certificates pass `openssl verify -x509_strict`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import ConfigError
from shared.runtime.exchange import read_certificate
from shared.runtime.private_keys import new_key

Role = Literal["authority", "server", "site", "observer"]
KEY_FILE, CERTIFICATE_FILE = "ca.key", "ca.crt"

_BACKDATED = timedelta(hours=1)
"""A hospital's clock may be slow: to it, a certificate of this minute would not be valid yet."""
_REVOCATIONS_VALID = timedelta(days=3650)
"""Long, because the authority is offline and nothing renews the list; an expired list would shut everybody out."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The key that signs the members' certificates, and its own certificate."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


def make_authority(consortium: str, days: int, now: datetime) -> Authority:
    """Make a self-signed authority that may sign members, but no further authorities."""
    key = new_key()
    subject = _name(consortium, "authority", f"{consortium} authority")
    builder = _builder(subject, subject, key.public_key(), now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_members=True), critical=True)
    return Authority(key, builder.sign(key, hashes.SHA384()))


def load_authority(folder: Path) -> Authority:
    """Read the authority's key and certificate; a `ConfigError` says if one is damaged or they are no pair."""
    try:
        key = serialization.load_pem_private_key((folder / KEY_FILE).read_bytes(), password=None)
        certificate = read_certificate((folder / CERTIFICATE_FILE).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename} ({error.strerror}): the authority is kept offline, call this where it lies"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder} holds a damaged {KEY_FILE} or {CERTIFICATE_FILE}: restore your copy") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{folder}: {KEY_FILE} does not belong to {CERTIFICATE_FILE}: restore your copy")
    return Authority(key, certificate)


def issue(
    authority: Authority,
    role: Role,
    name: str,
    key: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime,
    address: str = "",
) -> x509.Certificate:
    """Sign the certificate of a member's public key.

    Parameters
    ----------
    authority
        It must not have expired.
    role
        OU of the subject: a server's certificate may only serve, any other may only connect.
    name
        CN of the subject.
    days, now
        It is valid from an hour before `now`, for so many days, and never longer than the authority.
    address
        The server's DNS name or IPv4 address; empty for other roles.

    Raises
    ------
    ConfigError
        The authority has expired.

    """
    ends = authority.certificate.not_valid_after_utc
    if ends <= now:
        raise ConfigError(f"the authority expired on {ends:%Y-%m-%d}: provision a new consortium")
    issuer = authority.certificate.subject
    consortium = str(issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)
    subject = _name(consortium, role, name)
    builder = _builder(subject, issuer, key, now, min(now + timedelta(days=days), ends))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_members=False), critical=True)
    builder = builder.add_extension(_key_identifier(authority), critical=False)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if role == "server":
        builder = builder.add_extension(_server_names(address), critical=False)
    return builder.sign(authority.key, hashes.SHA384())


def revocation_list(
    authority: Authority, revoked: Iterable[tuple[int, datetime]], now: datetime
) -> x509.CertificateRevocationList:
    """Sign the list of revoked certificates, given as serial number and time of revocation."""
    entries = [x509.RevokedCertificateBuilder(number, time).build() for number, time in revoked]
    return (
        x509.CertificateRevocationListBuilder(
            issuer_name=authority.certificate.subject,
            last_update=now - _BACKDATED,
            next_update=now + _REVOCATIONS_VALID,
            revoked_certificates=entries,
        )
        .add_extension(_key_identifier(authority), critical=False)
        # Entries are never removed from the list, so their number grows, as RFC 5280 (5.2.3) requires.
        .add_extension(x509.CRLNumber(len(entries)), critical=False)
        .sign(authority.key, hashes.SHA384())
    )


def node_public(key: ec.EllipticCurvePublicKey) -> bytes:
    """A node's public key as the line that `flwr supernode register` takes."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"


def pem(signed: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """A certificate or a list of revoked ones in PEM."""
    return signed.public_bytes(serialization.Encoding.PEM)


def _name(consortium: str, role: str, name: str) -> x509.Name:
    parts = (
        (NameOID.ORGANIZATION_NAME, consortium),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, role),
        (NameOID.COMMON_NAME, name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_members: bool) -> x509.KeyUsage:
    never = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(
        digital_signature=True,  # a member's in TLS, the authority's of kits
        key_cert_sign=signs_members, crl_sign=signs_members,
        **dict.fromkeys((*never, "decipher_only"), False),
    )  # fmt: skip


def _key_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _server_names(address: str) -> x509.SubjectAlternativeName:
    """The server's address, and this machine itself for `fedbreast health`."""
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((address, "localhost", "127.0.0.1")):
        is_number = name.rpartition(".")[2].isdigit()
        names.append(x509.IPAddress(ipaddress.IPv4Address(name)) if is_number else x509.DNSName(name))
    return x509.SubjectAlternativeName(names)
