"""A hospital's startup kit: server address, data folder, policy, and the apps that are approved.

`fedbreast join` makes its keys and installs what the coordinator signed (`client.node.admission`); from then on it is
the hospital's. In use only `state/` is written to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import tomli_w
from pydantic import Field

from shared.atomic_files import replace_file
from shared.config.sections import Section, SiteName
from shared.config.strict_toml import parse_toml
from shared.errors import ConfigError
from shared.policy import Policy
from shared.runtime.app_bundle import Bundle, read_bundle
from shared.runtime.kit import Kit, Port

NODE_FILE, APPROVED_FILE = "node.toml", "approved.toml"
SITE_DATA = "FEDBREAST_SITE_DATA"
"""Environment variable that takes the place of `site.data`: in a container the data lie where they are mounted."""


class ServerAddress(Section):
    """The only address that this node connects to."""

    address: str
    port: Port


class SitePlace(Section):
    """The site's name in the federation and its folders, relative to the kit or absolute."""

    name: SiteName
    data: str = "data"
    cache: str = "state/cache"


class NodeFile(Section):
    """`node.toml`."""

    server: ServerAddress
    site: SitePlace
    policy: Policy = Policy()


class Approved(Section):
    """An app that the data officer approved: SHA-256 of its bundle, its name and version, when and by whom."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    app: str
    at: str
    by: str = ""


class _ApprovedFile(Section):
    app: tuple[Approved, ...] = ()


class SiteKit(Kit):
    """A site's kit.

    Raises
    ------
    ConfigError
        The folder is no site's kit, or `node.toml` is not valid.

    """

    role = "site"
    file = NODE_FILE
    remedy = "make new keys with `fedbreast join` and have them admitted"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.node = self.read_settings(NodeFile)

    @property
    def name(self) -> str:
        """The site's name in the federation."""
        return self.node.site.name

    @property
    def server(self) -> str:
        """`host:port` of the server."""
        return f"{self.node.server.address}:{self.node.server.port}"

    @property
    def data(self) -> Path:
        """The site folder; it is configured here and nowhere else."""
        path = os.environ.get(SITE_DATA)
        return Path(path).resolve() if path else self.folder / self.node.site.data

    @property
    def cache(self) -> Path:
        """Folder of prepared cases."""
        return self.folder / self.node.site.cache

    @property
    def node_key(self) -> Path:
        """Flower's node key."""
        return self.folder / "keys" / "node.key"

    def approved(self) -> tuple[Approved, ...]:
        """The apps this hospital runs; a damaged list is a `ConfigError`, and then no app may run.

        The list is read from the disk at each call, so that an approval takes effect at once.
        """
        path = self.folder / APPROVED_FILE
        if not path.is_file():
            return ()
        try:
            return _ApprovedFile.model_validate(parse_toml(path.read_text(encoding="utf-8-sig"))).app
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is damaged: remove it and approve the app again") from error

    def approved_hashes(self) -> frozenset[str]:
        """The hashes of the approved apps; none if the list is damaged."""
        try:
            return frozenset(item.sha256 for item in self.approved())
        except ConfigError:
            return frozenset()

    def approve(self, digest: str, app: str, by: str = "") -> Approved:
        """Add an app to the list."""
        entry = Approved(sha256=digest, app=app, at=datetime.now(UTC).isoformat(timespec="seconds"), by=by)
        self._write([item for item in self.approved() if item.sha256 != digest] + [entry])
        return entry

    def keep(self, bundle: Bundle) -> None:
        """Keep an approved app's files, which later ones are compared with."""
        replace_file(self._kept(bundle.sha256), bundle.packed(), str(self.folder))

    def last_approved(self) -> Bundle | None:
        """The app that was approved last, of those on the list that are kept here as they were approved."""
        for item in reversed(self.approved()):
            with suppress(OSError, ConfigError):
                bundle = read_bundle(self._kept(item.sha256).read_bytes(), "an approved app")
                if bundle.sha256 == item.sha256:
                    return bundle
        return None

    def _kept(self, digest: str) -> Path:
        return self.folder / "approved" / f"{digest}.zip"

    def withdraw(self, digest: str) -> Approved:
        """Take an app off the list; `digest` may be the first characters of its hash, which no other begins with.

        Raises
        ------
        ConfigError
            No app's hash, or more than one, begins with them.

        """
        matches = [item for item in self.approved() if item.sha256.startswith(digest)]
        if len(matches) != 1:
            remedy = "give more characters" if matches else "`--list` shows them; give other or more characters"
            raise ConfigError(f"{len(matches)} approved apps begin with {digest}: {remedy}")
        self._write([item for item in self.approved() if item != matches[0]])
        return matches[0]

    def _write(self, entries: list[Approved]) -> None:
        text = tomli_w.dumps({"app": [item.model_dump() for item in entries]})
        replace_file(self.folder / APPROVED_FILE, text.encode(), str(self.folder))
