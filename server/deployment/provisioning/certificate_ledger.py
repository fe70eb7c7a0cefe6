"""The certificates that the authority signed (`issued.json`), and the list of revoked ones made from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
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
    """A certificate as an entry of `issued.json`; `serial` and `fingerprint` (SHA-256) are hexadecimal."""

    model_config = ConfigDict(serialize_by_alias=True)

    role: Role
    name: str
    serial: str
    fingerprint: str
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

    def replace(
        self, role: Role, name: str, key: ec.EllipticCurvePublicKey, consortium: Consortium
    ) -> x509.Certificate:
        """Sign a new certificate and revoke any the member had."""
        days, address = consortium.certificates.valid_days, consortium.server.address
        certificate = issue(self.authority, role, name, key, days, self.now, address)
        self.entries = (*self._with_revoked(role, name), ledger_entry(certificate))
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
        raise ConfigError(f"{root / LEDGER_FILE} is damaged: restore your copy") from error


def ledger_entry(certificate: x509.Certificate) -> Certificate:
    """The ledger's entry for a certificate of a consortium."""

    def text(oid: x509.ObjectIdentifier) -> str:
        return str(certificate.subject.get_attributes_for_oid(oid)[0].value)

    return Certificate.model_validate(
        {
            "role": text(NameOID.ORGANIZATIONAL_UNIT_NAME),
            "name": text(NameOID.COMMON_NAME),
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
            "from": certificate.not_valid_before_utc,
            "until": certificate.not_valid_after_utc,
        }
    )


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically and durably; it never has wider permissions than `mode`, not even as a draft."""
    write_atomically(path, content, mode=mode, durable=True)


def write_private(path: Path, content: bytes) -> None:
    """Replace a private key's file: only its owner may read it and enter its folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    write_file(path, content, mode=0o600)


def _is_current(item: Certificate, role: Role, name: str) -> bool:
    return (item.role, item.name, item.revoked) == (role, name, None)
