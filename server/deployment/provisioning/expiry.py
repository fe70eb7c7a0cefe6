"""How long certificates still hold: of a whole consortium by its ledger, of one kit by the certificates in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from server.deployment.provisioning.certificate_ledger import LEDGER, Issued, described, read_ledger
from server.deployment.provisioning.consortium_file import Validity, load_consortium
from server.deployment.provisioning.members import DECLARED
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate in use, whole days until it ends, and whether that is soon or past."""

    certificate: Issued
    days_left: int
    soon: bool

    @property
    def expired(self) -> bool:
        """Whether it has ended."""
        return self.days_left < 0


def expiring(folder: Path, now: datetime) -> list[Expiring]:
    """Every certificate in use, the first to end first; revoked ones are not in use.

    Parameters
    ----------
    folder
        A consortium's folder, or a kit: the server's, a site's, the observer's.
    now
        The moment to count from.

    Raises
    ------
    ConfigError
        There is no certificate, or one is damaged.

    """
    if (folder / LEDGER).is_file():
        warn = load_consortium(folder / DECLARED).certificates.warn_days
        found = [item for item in read_ledger(folder) if item.revoked is None]
        found.append(_read(folder / "authority" / "ca.crt"))
    else:
        warn = _warn_days(folder)
        found = [_read(path) for path in (*folder.glob("*.crt"), *folder.glob("*/*.crt"))]
    if not found:
        raise ConfigError(f"{folder} holds no certificate: name a consortium's folder or a kit")
    found.sort(key=lambda item: (item.until, item.role, item.name))
    return [Expiring(item, item.days_left(now), item.days_left(now) < warn) for item in found]


def _warn_days(kit: Path) -> int:
    """Of the server's kit; a site's and an observer's do not say."""
    try:
        return int(tomllib.loads((kit / "server.toml").read_text(encoding="utf-8"))["warn_days"])
    except FileNotFoundError:
        return Validity().warn_days
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{kit / 'server.toml'} is damaged: restore your copy") from error


def _read(path: Path) -> Issued:
    try:
        return described(x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} is no certificate of a consortium: restore your copy") from error
