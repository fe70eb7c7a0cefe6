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
    file
        The node key as Flower's command line wants it.

    """

    name: str
    certificate: str
    public_key: bytes
    file: Path


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
            A key is damaged.

        """
        found = []
        for path in sorted((self.folder / "sites").glob("*.pub")):
            try:
                certificate = x509.load_pem_x509_certificate(path.with_suffix(".crt").read_bytes())
                key = serialization.load_ssh_public_key(path.read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} or its certificate is missing or damaged: provision again") from error
            digest = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name, as nginx has it, not a proof
            found.append(SiteKey(path.stem, digest, _pem(key), path))
        return tuple(found)

    def stamp(self) -> tuple[object, ...]:
        """What changes when a site is added, rotated or revoked."""
        paths = [self.revoked, *sorted((self.folder / "sites").glob("*"))]
        return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())


def _pem(key: serialization.SSHPublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
