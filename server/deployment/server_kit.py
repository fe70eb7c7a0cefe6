"""The server's startup kit, opened; `fedbreast provision` writes it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError

SERVER_FILE = "server.toml"


class ServerFile(BaseModel):
    """`server.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    profile: str
    address: str
    port: int = Field(ge=1, le=65535)
    status_port: int = Field(ge=1, le=65535)
    superlink_port: int = Field(ge=1, le=65535)
    warn_days: int = 30


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A site as the server knows it.

    Attributes
    ----------
    name
        In the federation.
    certificate
        SHA-1 of its TLS certificate, hexadecimal: how nginx names a client's certificate.
    public_key
        Its node key, PEM: what Flower's header carries in base64.
    line
        The node key as Flower's command line wants it: a line of OpenSSH. The file may be another by then.

    """

    name: str
    certificate: str
    public_key: bytes
    line: bytes


class ServerKit:
    """The server's kit.

    Raises
    ------
    ConfigError
        The folder is no server's kit.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        path = self.folder / SERVER_FILE
        try:
            self.server = ServerFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{folder} is no server's kit (no {SERVER_FILE}): name the `server` folder") from error
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise ConfigError(f"{path} cannot be read: provision the consortium again ({error})") from error

    @property
    def state(self) -> Path:
        """The only part of the kit that is written to in use."""
        return self.folder / "state"

    @property
    def authority(self) -> Path:
        """The consortium's certificate authority."""
        return self.folder / "certificates" / "ca.crt"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The server's certificate and its key."""
        return self.folder / "certificates" / "server.crt", self.folder / "keys" / "server.key"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates."""
        return self.folder / "certificates" / "crl.pem"

    def sites(self) -> tuple[SiteKey, ...]:
        """The sites whose keys are here, by name; read anew each time.

        Raises
        ------
        ConfigError
            A key is damaged, or the folder of keys is missing.

        """
        found, faults = self.look()
        if faults:
            raise next(iter(faults.values()))
        return found

    def look(self) -> tuple[tuple[SiteKey, ...], dict[str, ConfigError]]:
        """The sites that can be read, and of every other one why it cannot.

        Raises
        ------
        ConfigError
            The folder of keys is missing: that nobody is listed would mean that all have been sent away.

        """
        folder = self.folder / "sites"
        if not folder.is_dir():
            raise ConfigError(f"{folder} is missing: copy it from the consortium's folder")
        found, faults = [], {}
        for path in _shown(folder, "*.pub"):
            try:
                found.append(_read(path))
            except (OSError, ValueError):
                faults[path.stem] = ConfigError(f"{path} or its certificate is missing or damaged: provision again")
        return tuple(found), faults

    def stamp(self) -> tuple[object, ...]:
        """What changes when a site is added, rotated or revoked, or the server gets other keys."""
        own = (self.revoked, self.authority, *self.certificate)
        return tuple(_mark(path) for path in (*own, *_shown(self.folder / "sites", "*")))


def _shown(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by name; not those with a dot: they are drafts, which come and go."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _mark(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:  # gone since it was listed
        return (path.name,)
    return path.name, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _read(path: Path) -> SiteKey:
    certificate = x509.load_pem_x509_certificate(path.with_suffix(".crt").read_bytes())
    line = path.read_bytes()
    digest = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name, as nginx has it, not a proof
    return SiteKey(path.stem, digest, _pem(serialization.load_ssh_public_key(line)), line)


def _pem(key: serialization.SSHPublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
