"""The certificates that the authority signed (`issued.json`), and the list of revoked ones made from it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from server.deployment.provisioning.certificate_authority import (
    Authority,
    Role,
    issue,
    load_authority,
    pem,
    revocation_list,
)
from server.deployment.provisioning.consortium_file import Consortium
from shared.atomic_files import write_atomically
from shared.config.sections import Section
from shared.errors import ConfigError

LEDGER_FILE, REVOKED_FILE = Path("authority/issued.json"), Path("server/certificates/crl.pem")


class Certificate(Section):
    """A certificate as an entry of `issued.json`; `serial` and the digests (SHA-256) are hexadecimal."""

    model_config = ConfigDict(serialize_by_alias=True)

    role: Role
    name: str
    serial: str
    fingerprint: str
    keys: tuple[str, ...]
    """Digest of its public key and, of a site's, that of the node key admitted with it."""
    since: datetime = Field(alias="from")
    until: datetime
    revoked: datetime | None = None

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative once it has."""
        return (self.until - now) // timedelta(days=1)


_ENTRIES = TypeAdapter(tuple[Certificate, ...])


class Ledger:
    """The authority of the consortium's folder `root` with its ledger: each certificate is recorded before it is given.

    `now` is the time of everything that is done through this object.
    """

    def __init__(self, root: Path, authority: Authority, entries: tuple[Certificate, ...], now: datetime) -> None:
        self.root, self.authority, self.entries = root, authority, entries
        self.now = now.replace(microsecond=0)

    @classmethod
    def read(cls, root: Path, now: datetime) -> Ledger:
        """Read a consortium's authority and ledger."""
        return cls(root, load_authority(root / "authority"), read_ledger(root), now)

    def current(self, role: Role, name: str) -> Certificate | None:
        """The certificate that a member uses now."""
        return next((item for item in self.entries if _is_current(item, role, name)), None)

    def holder(self, key: ec.EllipticCurvePublicKey) -> Certificate | None:
        """The last certificate that was given with this key, revoked or not."""
        return next((item for item in reversed(self.entries) if _digest(key) in item.keys), None)

    def replace(
        self,
        role: Role,
        name: str,
        key: ec.EllipticCurvePublicKey,
        consortium: Consortium,
        node_key: ec.EllipticCurvePublicKey | None = None,
    ) -> x509.Certificate:
        """Sign a new certificate and revoke any the member had."""
        days, address = consortium.certificates.valid_days, consortium.server.address
        certificate = issue(self.authority, role, name, key, days, self.now, address)
        self.entries = (*self._with_revoked(role, name), ledger_entry(certificate, node_key))
        self.save()
        return certificate

    def withdraw(self, role: Role, name: str) -> None:
        """Revoke a member's certificate."""
        self.entries = self._with_revoked(role, name)
        self.save()

    def save(self) -> None:
        """Write the ledger, then the list of revoked certificates; the next call repairs a kill in between."""
        write_file(self.root / LEDGER_FILE, _ENTRIES.dump_json(self.entries, indent=1) + b"\n")
        revoked = [(int(item.serial, 16), item.revoked) for item in self.entries if item.revoked is not None]
        write_file(self.root / REVOKED_FILE, pem(revocation_list(self.authority, revoked, self.now)))

    def _with_revoked(self, role: Role, name: str) -> tuple[Certificate, ...]:
        revoked = {"revoked": self.now}
        return tuple(
            item.model_copy(update=revoked) if _is_current(item, role, name) else item for item in self.entries
        )


def read_ledger(root: Path) -> tuple[Certificate, ...]:
    """Every certificate the authority of a consortium signed, oldest first.

    Raises
    ------
    ConfigError
        The folder is no consortium's, or its ledger is damaged.

    """
    try:
        return _ENTRIES.validate_json((root / LEDGER_FILE).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{root} has no {LEDGER_FILE}: name the folder that `fedbreast provision` wrote, where its authority lies"
        ) from error
    except ValidationError as error:
        raise ConfigError(
            f"{root / LEDGER_FILE} is damaged: restore your copy; one from before `fedbreast join` is no longer "
            "used, so provision a new consortium"
        ) from error


def ledger_entry(certificate: x509.Certificate, node_key: ec.EllipticCurvePublicKey | None = None) -> Certificate:
    """The ledger's entry for a certificate of a consortium, and for the node key of a site."""

    def text(oid: x509.ObjectIdentifier) -> str:
        return str(certificate.subject.get_attributes_for_oid(oid)[0].value)

    return Certificate.model_validate(
        {
            "role": text(NameOID.ORGANIZATIONAL_UNIT_NAME),
            "name": text(NameOID.COMMON_NAME),
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
            "keys": [_digest(key) for key in (certificate.public_key(), node_key) if key is not None],
            "from": certificate.not_valid_before_utc,
            "until": certificate.not_valid_after_utc,
        }
    )


def write_file(path: Path, content: bytes) -> None:
    """Replace a file that is no secret, atomically and durably."""
    write_atomically(path, content, mode=0o644, durable=True)


def _digest(key: CertificatePublicKeyTypes) -> str:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(*form)).hexdigest()


def _is_current(item: Certificate, role: Role, name: str) -> bool:
    return (item.role, item.name, item.revoked) == (role, name, None)
