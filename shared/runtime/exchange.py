"""What a hospital and the coordinator exchange to join: small files by mail, and fingerprints by telephone.

Whoever can change a mail can exchange the keys in it. So each side reads the other a fingerprint of what it sent, on a
telephone number known before: thirty digits, 99 bits of SHA-256, to which nobody can make another content.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import ConfigError
from shared.words import plain

_DIGITS, _GROUP = 30, 5


def telephone_fingerprint(*parts: bytes) -> str:
    """Thirty digits in groups of five; they change if a part changes, or if bytes move from one part into the next."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    digits = f"{int.from_bytes(digest.digest(), 'big') % 10**_DIGITS:0{_DIGITS}d}"
    return " ".join(digits[start : start + _GROUP] for start in range(0, _DIGITS, _GROUP))


def authority_fingerprint(authority: x509.Certificate) -> str:
    """The consortium's fingerprint: that of its authority's certificate, which stays the same for all hospitals."""
    return telephone_fingerprint(b"fedbreast authority", authority.public_bytes(serialization.Encoding.DER))


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate from outside, so that its key can be asked for without further care.

    Raises
    ------
    ValueError
        It is damaged, or its version or its key is of another kind; `cryptography` has classes of its own for these.

    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key()
    except (x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    return certificate


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key in DER, as it stands in certificates (SubjectPublicKeyInfo)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def check_told(told: str, own: str, what: str) -> None:
    """Compare the fingerprint that was told by telephone with that of the file which `what` names.

    Blanks and hyphens do not matter. Where they differ, a `ConfigError` has both and the remedy.
    """
    if re.sub(r"[\s-]", "", told) != own.replace(" ", ""):
        given = plain(told.strip()[:100]) or "none"
        raise ConfigError(
            f"{what} has the fingerprint {own}, and you gave {given}: compare again by telephone. If they still differ "
            "the file was exchanged on its way or is an old one: do not use it, have it sent again"
        )


def read_small_file(path: Path, most: int, what: str) -> bytes:
    """Read a file that came from outside; a `ConfigError` where there is none, or one of more than `most` bytes."""
    if not path.is_file():
        raise ConfigError(f"there is no {what} {path}: name the file that the other side sent")
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ConfigError(f"{path} is larger than {most} bytes and so is no {what}: have it sent again")
    return content
