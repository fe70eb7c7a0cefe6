"""How long certificates are valid: those of a consortium, read from its ledger, or those of one kit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from server.deployment.provisioning.certificate_ledger import LEDGER_FILE, Certificate, ledger_entry, read_ledger
from server.deployment.provisioning.consortium_file import Validity, load_consortium
from server.deployment.provisioning.members import CONSORTIUM_FILE
from shared.config.strict_toml import parse_toml
from shared.errors import ConfigError
from shared.runtime.exchange import read_certificate


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate in use, the whole days until it expires, and whether that is soon or past."""

    certificate: Certificate
    days_left: int
    soon: bool

    @property
    def expired(self) -> bool:
        """Whether it has expired."""
        return self.days_left < 0


def certificate_expiry(folder: Path, now: datetime) -> list[Expiry]:
    """Every certificate in use, sorted by the time it expires; revoked ones are not in use.

    The folder is a consortium's, or a kit: the server's, a site's, the observer's.

    Raises
    ------
    ConfigError
        There is no certificate, or one is damaged.

    """
    if (folder / LEDGER_FILE).is_file():
        warn = load_consortium(folder / CONSORTIUM_FILE).certificates.warn_days
        certificates = [item for item in read_ledger(folder) if item.revoked is None]
        certificates.append(_read(folder / "authority" / "ca.crt"))
    else:
        warn = _warn_days(folder)
        certificates = [_read(path) for path in (*folder.glob("*.crt"), *folder.glob("*/*.crt"))]
    if not certificates:
        raise ConfigError(f"{folder} holds no certificate: name a consortium's folder or a kit")
    certificates.sort(key=lambda item: (item.until, item.role, item.name))
    return [Expiry(item, item.days_left(now), item.days_left(now) < warn) for item in certificates]


def _warn_days(kit: Path) -> int:
    """`warn_days` of the server's kit, and the default for a site's or an observer's kit, which do not have it."""
    try:
        return int(parse_toml((kit / "server.toml").read_text(encoding="utf-8-sig"))["warn_days"])
    except FileNotFoundError:
        return Validity().warn_days
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{kit / 'server.toml'} is damaged: restore your copy") from error


def _read(path: Path) -> Certificate:
    try:
        return ledger_entry(read_certificate(path.read_bytes()))
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} is no certificate of a consortium: restore your copy") from error
