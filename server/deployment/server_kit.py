"""The server's startup kit, as a program reads it; `fedbreast provision` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from shared.config.sections import Section, SiteName
from shared.config.strict_toml import read_toml, validated
from shared.errors import ConfigError
from shared.runtime.kit import AgreedCases, Kit, Port

CASES_FILE = "most_cases.toml"


class ServerFile(Section):
    """`server.toml`."""

    name: str
    profile: str
    address: str
    port: Port
    status_port: Port
    superlink_port: Port
    warn_days: int = 30


class CasesFile(Section):
    """`most_cases.toml`: how many training cases a site may claim, of those with whom a number was agreed."""

    most_cases: dict[SiteName, AgreedCases]


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A site as the server knows it, by its name in the federation."""

    name: str
    certificate: str
    """SHA-1 of its TLS certificate, hexadecimal: nginx names a client's certificate so."""
    public_key: bytes
    """Its node key, PEM: Flower's header carries it in base64."""
    line: bytes
    """Its node key as one line of OpenSSH, which Flower's command line takes; its file may have changed since."""


class ServerKit(Kit):
    """The server's kit.

    Raises
    ------
    ConfigError
        The folder is no server's kit, or its settings are not valid.

    """

    role = "server"
    file = "server.toml"
    remedy = "fedbreast rotate CONSORTIUM server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = self.read_settings(ServerFile)

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates."""
        return self.folder / "certificates" / "crl.pem"

    def most_cases(self) -> dict[str, int]:
        """How many training cases a site may claim; read from the disk at each call.

        Raises
        ------
        ConfigError
            The file is not valid, or missing: that is no empty list.

        """
        path = self.folder / CASES_FILE
        return dict(validated(CasesFile, read_toml(path, "server's kit"), str(path)).most_cases)

    def sites(self) -> tuple[SiteKey, ...]:
        """The sites whose keys are in the kit, by name; read from the disk at each call, and none may be damaged.

        Raises
        ------
        ConfigError
            A key is damaged, or the folder of keys is missing.

        """
        sites, faults = self.read_sites()
        if faults:
            raise next(iter(faults.values()))
        return sites

    def read_sites(self) -> tuple[tuple[SiteKey, ...], dict[str, ConfigError]]:
        """The sites whose keys can be read, and an error for each other site.

        Raises
        ------
        ConfigError
            The folder of keys is missing. That is no empty list: every site would be removed.

        """
        folder = self.folder / "sites"
        if not folder.is_dir():
            raise ConfigError(f"{folder} is missing: copy it from the consortium's folder")
        sites, faults = [], {}
        for path in _visible_files(folder, "*.pub"):
            try:
                sites.append(_read_site(path))
            except (OSError, ValueError):
                faults[path.stem] = ConfigError(
                    f"{path} or its certificate is missing or damaged: copy both here again"
                )
        return tuple(sites), faults

    def stamp(self) -> tuple[object, ...]:
        """Changes when a site is added, rotated or revoked, or when the server gets other keys."""
        own = (self.revoked, self.authority, *self.certificate)
        return tuple(_file_stamp(path) for path in (*own, *_visible_files(self.folder / "sites", "*")))


def _visible_files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by name, without hidden ones: those are drafts, which come and go."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _file_stamp(path: Path) -> tuple[object, ...]:
    try:
        stat = path.stat()
    except OSError:  # gone since it was listed
        return (path.name,)
    return path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode


def _read_site(path: Path) -> SiteKey:
    certificate = x509.load_pem_x509_certificate(path.with_suffix(".crt").read_bytes())
    line = path.read_bytes()
    key = serialization.load_ssh_public_key(line)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - nginx's name for it, not a proof
    return SiteKey(path.stem, digest, pem, line)
