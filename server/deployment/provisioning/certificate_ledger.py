"""What the authority signed: `issued.json`, and the list of revoked certificates that follows from it."""

from __future__ import annotations

import os
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
from shared.config.sections import Section
from shared.errors import ConfigError

LEDGER, REVOKED = Path("authority/issued.json"), Path("server/certificates/crl.pem")


class Issued(Section):
    """A certificate, as `issued.json` has it; `serial` and `fingerprint` (SHA-256) are hexadecimal."""

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


_LEDGER = TypeAdapter(tuple[Issued, ...])


class Registry:
    """An authority at work: what it signs is written down before anybody gets it.

    Parameters
    ----------
    root
        The consortium's folder.
    authority, entries
        Who signs, and what it has signed.
    now
        The moment of everything done through this object.

    """

    def __init__(self, root: Path, authority: Authority, entries: tuple[Issued, ...], now: datetime) -> None:
        self.root, self.authority, self.entries = root, authority, entries
        self.now = now.replace(microsecond=0)

    @classmethod
    def open(cls, root: Path, now: datetime) -> Registry:
        """Read a consortium's authority and ledger."""
        return cls(root, load_authority(root / "authority"), read_ledger(root), now)

    def current(self, role: Role, name: str) -> Issued | None:
        """The certificate a member has now."""
        return next((item for item in self.entries if _stands(item, role, name)), None)

    def replace(
        self, role: Role, name: str, key: ec.EllipticCurvePublicKey, consortium: Consortium
    ) -> x509.Certificate:
        """Sign a new certificate and revoke any the member had."""
        days, address = consortium.certificates.valid_days, consortium.server.address
        certificate = issue(self.authority, role, name, key, days, self.now, address)
        self.entries = (*self._revoking(role, name), described(certificate))
        self.save()
        return certificate

    def withdraw(self, role: Role, name: str) -> None:
        """Revoke what the member has."""
        self.entries = self._revoking(role, name)
        self.save()

    def save(self) -> None:
        """Write the ledger, then the list of revoked certificates: a kill in between is mended by the next call."""
        write_file(self.root / LEDGER, _LEDGER.dump_json(self.entries, indent=1) + b"\n")
        revoked = [(int(item.serial, 16), item.revoked) for item in self.entries if item.revoked is not None]
        write_file(self.root / REVOKED, pem(revocation_list(self.authority, revoked, self.now)))

    def _revoking(self, role: Role, name: str) -> tuple[Issued, ...]:
        ended = {"revoked": self.now}
        return tuple(item.model_copy(update=ended) if _stands(item, role, name) else item for item in self.entries)


def read_ledger(root: Path) -> tuple[Issued, ...]:
    """Every certificate the authority of a consortium signed, oldest first.

    Raises
    ------
    ConfigError
        The folder is no consortium's, or its ledger is damaged.

    """
    try:
        return _LEDGER.validate_json((root / LEDGER).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{root} has no {LEDGER}: name the folder that `fedbreast provision` wrote, where its authority lies"
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{root / LEDGER} is damaged: restore your copy") from error


def described(certificate: x509.Certificate) -> Issued:
    """A certificate of ours as an entry of the ledger."""

    def text(oid: x509.ObjectIdentifier) -> str:
        return str(certificate.subject.get_attributes_for_oid(oid)[0].value)

    return Issued.model_validate(
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
    """Replace a file atomically and durably; it never has a wider mode than `mode`, not even as a draft."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def write_private(path: Path, content: bytes) -> None:
    """Replace a private key's file: its owner alone may read it, and enter its folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    write_file(path, content, mode=0o600)


def _stands(item: Issued, role: Role, name: str) -> bool:
    return (item.role, item.name, item.revoked) == (role, name, None)
