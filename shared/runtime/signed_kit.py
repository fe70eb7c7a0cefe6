"""A hospital's kit as the coordinator sends it: one file with certificates, settings and instructions, and no secret.

The consortium's authority signs it. A hospital takes it only from the authority whose fingerprint it was told by
telephone, and only as the answer to its own request.
"""

from __future__ import annotations

import json
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.config.sections import SiteName
from shared.errors import ConfigError
from shared.runtime.exchange import authority_fingerprint, check_told, read_certificate

LARGEST_KIT = 2**18
AUTHORITY, CERTIFICATE = "certificates/ca.crt", "certificates/site.crt"
OWN_FILES = ("node.toml", "compose.yaml")
"""Files that a hospital may have edited: a later kit does not replace them."""
FILES: Final = frozenset({AUTHORITY, CERTIFICATE, *OWN_FILES, "README.md"})
_ALGORITHM = ec.ECDSA(hashes.SHA384())


class SignedKit(BaseModel):
    """The file `SITE.kit`: JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    site: SiteName
    request: str
    """Fingerprint of the request that it answers."""
    files: dict[str, str]
    """Text of each file by its path in the kit."""
    signature: str = ""
    """The authority's, of all the rest; hexadecimal."""

    @property
    def signed_bytes(self) -> bytes:
        """What is signed; it cannot be taken for a certificate or a revocation list, which the authority signs, too."""
        rest = self.model_dump(exclude={"signature"})
        return b"fedbreast kit\n" + json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()


def sign_kit(site: str, request: str, files: dict[str, str], key: ec.EllipticCurvePrivateKey) -> bytes:
    """The kit for the site whose request has this fingerprint, signed with the authority's key."""
    kit = SignedKit(site=site, request=request, files=files)
    signature = key.sign(kit.signed_bytes, _ALGORITHM).hex()
    return kit.model_copy(update={"signature": signature}).model_dump_json(indent=1).encode() + b"\n"


def open_kit(content: bytes, told: str) -> SignedKit:
    """Read a kit and check that the authority with the fingerprint `told` signed it.

    Raises
    ------
    ConfigError
        It is no kit; it comes from another authority; or it was changed after it was signed.

    """
    try:
        kit = SignedKit.model_validate_json(content)
        if set(kit.files) != FILES:
            raise ValueError(f"a kit has the files {', '.join(sorted(FILES))}")
        authority = read_certificate(kit.files[AUTHORITY].encode())
        signature = bytes.fromhex(kit.signature)
    except (ValidationError, ValueError) as error:
        raise ConfigError("this is no kit of `fedbreast admit`, or a damaged one: have it sent again") from error
    check_told(told, authority_fingerprint(authority), "the consortium that signed this kit")
    key = authority.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(signature, kit.signed_bytes, _ALGORITHM)
    except InvalidSignature as error:
        raise ConfigError(
            "this kit was changed after the consortium's authority had signed it: do not use it, have it sent again"
        ) from error
    return kit
