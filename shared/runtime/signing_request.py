"""A hospital's signing request: its name and the public halves of its two keys, with proof that it holds both keys.

It is two PKCS #10 requests (RFC 2986) in PEM, one after the other, which `openssl req -verify -text` reads too:

    OU=site, CN=<name of the site>     the key of its TLS certificate
    OU=node, CN=<name of the site>     Flower's node key

Each is signed with its own key. `fedbreast join` writes it, `fedbreast admit` reads it; whatever `join` does not write
is refused, and nothing but the two public keys is taken over.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter, ValidationError

from shared.config.sections import SiteName
from shared.errors import ConfigError
from shared.runtime.exchange import public_bytes, telephone_fingerprint
from shared.words import plain

LARGEST_REQUEST = 8192
_SITE, _NODE = "site", "node"
_NAME: Final = TypeAdapter[str](SiteName)
_ONE = re.compile(rb"-----BEGIN CERTIFICATE REQUEST-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*")
_REMEDY = "have the hospital write it with `fedbreast join` and send it again"


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What a hospital asks the coordinator to sign."""

    name: str
    site_key: ec.EllipticCurvePublicKey
    node_key: ec.EllipticCurvePublicKey

    @property
    def fingerprint(self) -> str:
        """Of name and keys, to compare by telephone."""
        keys = public_bytes(self.site_key), public_bytes(self.node_key)
        return telephone_fingerprint(b"fedbreast request", self.name.encode(), *keys)


def write_request(name: str, site_key: ec.EllipticCurvePrivateKey, node_key: ec.EllipticCurvePrivateKey) -> bytes:
    """The request of a site of that name, signed with both keys."""
    parts = ((_SITE, site_key), (_NODE, node_key))
    return b"".join(
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(unit, name))
        .sign(key, hashes.SHA384())
        .public_bytes(Encoding.PEM)
        for unit, key in parts
    )


def read_request(content: bytes) -> SigningRequest:
    """Read and check a request.

    Raises
    ------
    ConfigError
        It is not exactly what `write_request` gives: another number of parts, another subject, any attribute or
        extension, keys other than two different ones on P-384, or a signature that is not SHA-384's or not its key's.

    """
    parts = _ONE.findall(content)
    if b"".join(parts) != content or len(parts) != len((_SITE, _NODE)):
        raise ConfigError(f"the request is not two requests in PEM and nothing else: {_REMEDY}")
    try:
        requests = _parsed(parts)
        names = requests[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = site_name(str(names[0].value) if len(names) == 1 else "")
        keys = [_checked(request, _subject(unit, name)) for request, unit in zip(requests, (_SITE, _NODE), strict=True)]
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm, UserWarning) as error:
        raise ConfigError(f"the request is damaged or of another kind: {_REMEDY}") from error
    if keys[0] == keys[1]:
        raise ConfigError(f"the request has one key twice, and each must have its own: {_REMEDY}")
    return SigningRequest(name, *keys)


def _parsed(parts: list[bytes]) -> list[x509.CertificateSigningRequest]:
    """The requests; a subject that `cryptography` only warns of (an empty part, or too long a one) is a fault, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requests = [x509.load_pem_x509_csr(part) for part in parts]
        for request in requests:
            request.subject.public_bytes()
    return requests


def site_name(name: str) -> str:
    """A site's name as it is; a `ConfigError` where it cannot be one."""
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"'{plain(name[:64])}' cannot be a site's name: small letters, digits and hyphens, 32 at most, as in the "
            "consortium's file"
        ) from error


def _checked(request: x509.CertificateSigningRequest, subject: x509.Name) -> ec.EllipticCurvePublicKey:
    """The key of one part."""
    who = subject.rfc4514_string()
    key, algorithm = request.public_key(), request.signature_hash_algorithm
    if request.subject.public_bytes() != subject.public_bytes():
        given = plain(request.subject.rfc4514_string()[:100])
        raise ConfigError(f"the request is for the subject '{given}' where '{who}' is expected: {_REMEDY}")
    if len(request.attributes):
        raise ConfigError(f"the request ({who}) asks for attributes or extensions, and none is signed: {_REMEDY}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigError(f"the request ({who}) is for a key that is not ECDSA on P-384: {_REMEDY}")
    if not isinstance(algorithm, hashes.SHA384) or not request.is_signature_valid:
        raise ConfigError(f"the request ({who}) is not signed with its own key and SHA-384: {_REMEDY}")
    return key


def _subject(unit: str, name: str) -> x509.Name:
    parts = ((NameOID.ORGANIZATIONAL_UNIT_NAME, unit), (NameOID.COMMON_NAME, name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
