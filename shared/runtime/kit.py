"""A kit: a member's folder of keys, certificates and settings. A site makes its own keys."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from shared.config.sections import Section
from shared.config.strict_toml import read_toml, validated
from shared.errors import ConfigError, RunError
from shared.runtime.exchange import read_certificate
from shared.runtime.locks import hold_lock

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
AgreedCases = Annotated[int, Field(ge=1, strict=True)]
M = TypeVar("M", bound=Section)


class Kit:
    """What the server's kit and a site's have in common."""

    role: ClassVar[str]
    """`server` or `site`: the name of its certificate and key."""
    file: ClassVar[str]
    """Name of the settings file."""
    remedy: ClassVar[str]
    """How to get new keys and certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def state(self) -> Path:
        """The only folder of the kit that is written to in use."""
        return self.folder / "state"

    @property
    def audit_file(self) -> Path:
        """The audit log."""
        return self.state / "audit.jsonl"

    @property
    def authority(self) -> Path:
        """Certificate of the consortium's certificate authority."""
        return self.folder / "certificates" / "ca.crt"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The member's TLS certificate and its key."""
        return self.folder / "certificates" / f"{self.role}.crt", self.folder / "keys" / f"{self.role}.key"

    def read_settings(self, model: type[M]) -> M:
        """Read the settings file; a `ConfigError` says if the folder is no such kit, or which setting is not valid."""
        path = self.folder / self.file
        if not path.is_file():
            raise ConfigError(f"{self.folder} is no {self.role}'s kit (no {self.file}): name the {self.role}'s folder")
        try:
            return validated(model, read_toml(path, f"{self.role}'s kit"), str(path))
        except ConfigError as error:
            raise ConfigError(f"{error}; mend it, or put it back from your copy of the kit") from error

    def check(self, *, private: tuple[Path, ...] = (), public: tuple[Path, ...] = ()) -> None:
        """Look for what would keep the member from connecting.

        Parameters
        ----------
        private, public
            Further files that must be there; the private ones for their owner alone.

        Raises
        ------
        ConfigError
            A file is missing or damaged, a private key can be read by others, or the certificate has expired.

        """
        certificate, key = self.certificate
        for path in (self.authority, certificate, key, *private, *public):
            if not path.is_file():
                raise ConfigError(f"{path} is missing: put it back from your copy of the kit, or {self.remedy}")
        for path in (key, *private):
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.authority)
            context.load_cert_chain(certificate, key)
            until = read_certificate(certificate.read_bytes()).not_valid_after_utc
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"a certificate in {self.folder} is damaged, or {certificate} and {key} are no pair: {self.remedy}"
            ) from error
        if until < datetime.now(UTC):
            raise ConfigError(f"the {self.role}'s certificate expired on {until:%Y-%m-%d}: {self.remedy}")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from serving this kit while the context lasts; a `RunError` if one does."""
        self.state.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.state / ".lock", f"{self.folder} is served by another process already: end it first"):
            yield

    def is_in_use(self) -> bool:
        """Whether a process serves this kit, or is about to."""
        try:
            with hold_lock(self.state / ".lock", ""):
                return False
        except RunError:
            return True
        except OSError:  # no state yet: it was never served
            return False
