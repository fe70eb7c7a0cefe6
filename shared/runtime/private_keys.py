"""Private keys: ECDSA on P-384, made and kept by the member they belong to, in files for their owner alone."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.atomic_files import write_atomically


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A TLS key in PKCS #8, PEM."""
    return _private(key, serialization.PrivateFormat.PKCS8)


def node_private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Flower's node key in OpenSSH's format."""
    return _private(key, serialization.PrivateFormat.OpenSSH)


def write_private(path: Path, content: bytes) -> None:
    """Replace a private key's file: only its owner may read it and enter its folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    write_atomically(path, content, mode=0o600, durable=True)


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
