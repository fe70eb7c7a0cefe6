"""A hospital's startup kit: where the server is, where the data lie, what a run may ask, which apps are approved.

`fedbreast provision` writes it; from then on it is the hospital's. In use only `state/` is written to.
"""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.atomic_files import replace_file
from shared.errors import ConfigError

NODE_FILE, APPROVED_FILE = "node.toml", "approved.toml"
SITE_DATA = "FEDBREAST_SITE_DATA"
"""Environment variable that stands in for `site.data`: in a container the data lie where they are mounted."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerAddress(_Strict):
    """The one place this node connects to."""

    address: str
    port: int = Field(ge=1, le=65535)


class SitePlace(_Strict):
    """The site's name in the federation and its folders, relative to the kit or absolute."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    data: str = "data"
    cache: str = "state/cache"


class NodePolicy(_Strict):
    """What this hospital lets a run ask, whatever the server says."""

    tasks: tuple[str, ...] = Field(default=(), description="Tasks a run may have; empty: all.")
    max_rounds: int = Field(default=1000, ge=1, description="Most rounds a run may have.")
    differential_privacy: bool = Field(default=False, description="Refuse a run that trains without it.")


class NodeFile(_Strict):
    """`node.toml`."""

    server: ServerAddress
    site: SitePlace
    policy: NodePolicy = NodePolicy()


class Approved(_Strict):
    """An app that the data officer approved: the SHA-256 of its bundle, what it calls itself, when and by whom."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    app: str
    at: str
    by: str = ""


class _ApprovedFile(_Strict):
    app: tuple[Approved, ...] = ()


class SiteKit:
    """A site's kit, opened.

    Parameters
    ----------
    folder
        Where it lies.

    Raises
    ------
    ConfigError
        The folder is no site's kit, or `node.toml` cannot be meant.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        path = self.folder / NODE_FILE
        try:
            self.node = NodeFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(
                f"{folder} is no site's kit (no {NODE_FILE}): name the folder the coordinator sent"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        except ValidationError as error:
            found = error.errors()[0]
            raise ConfigError(f"{path}: '{'.'.join(map(str, found['loc']))}': {found['msg']}") from error

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
        """The site folder; given here and nowhere else."""
        named = os.environ.get(SITE_DATA)
        return Path(named).resolve() if named else self.folder / self.node.site.data

    @property
    def cache(self) -> Path:
        """Where prepared cases are kept."""
        return self.folder / self.node.site.cache

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
        """The site's client certificate and its key."""
        return self.folder / "certificates" / "site.crt", self.folder / "keys" / "site.key"

    @property
    def node_key(self) -> Path:
        """Flower's node key."""
        return self.folder / "keys" / "node.key"

    def approved(self) -> tuple[Approved, ...]:
        """The apps this hospital runs; read anew each time, so that an approval holds at once.

        Raises
        ------
        ConfigError
            The list is damaged: then nothing runs.

        """
        path = self.folder / APPROVED_FILE
        if not path.is_file():
            return ()
        try:
            return _ApprovedFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).app
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is damaged: remove it and approve the app again") from error

    def approve(self, digest: str, app: str, by: str = "") -> Approved:
        """Add an app to the list."""
        entry = Approved(sha256=digest, app=app, at=datetime.now(UTC).isoformat(timespec="seconds"), by=by)
        self._write([item for item in self.approved() if item.sha256 != digest] + [entry])
        return entry

    def withdraw(self, digest: str) -> Approved:
        """Take an app off the list; `digest` may be its first characters.

        Raises
        ------
        ConfigError
            None or several begin so.

        """
        found = [item for item in self.approved() if item.sha256.startswith(digest)]
        if len(found) != 1:
            remedy = "give more characters" if found else "`--list` shows them; give other or more characters"
            raise ConfigError(f"{len(found)} approved apps begin with {digest}: {remedy}")
        self._write([item for item in self.approved() if item != found[0]])
        return found[0]

    def _write(self, entries: list[Approved]) -> None:
        text = tomli_w.dumps({"app": [item.model_dump() for item in entries]})
        replace_file(self.folder / APPROVED_FILE, text.encode(), str(self.folder))


class Approvals:
    """The approvals that held at the last look, to notice that one was taken back.

    Parameters
    ----------
    kit
        The site's kit.

    """

    def __init__(self, kit: SiteKit) -> None:
        self._kit = kit
        self._written, self._held = self._look()

    def withdrawn(self) -> bool:
        """Whether one was taken back since the last look; as long as nobody writes the list, this reads nothing."""
        if self._stamp() == self._written:
            return False
        held = self._held
        self._written, self._held = self._look()
        return not held <= self._held

    def _look(self) -> tuple[tuple[int, ...], frozenset[str]]:
        written = self._stamp()  # before reading: a list that changes in between is read once more
        try:
            return written, frozenset(item.sha256 for item in self._kit.approved())
        except ConfigError:
            return written, frozenset()  # a damaged list approves nothing

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = (self._kit.folder / APPROVED_FILE).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size
