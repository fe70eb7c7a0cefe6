"""The app as it travels: a checkout bundled as `flwr run` does it, and the hash by which hospitals approve it."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError, RunError
from shared.runtime.flower_internals import flower_internal

STAGE = "fedbreast"  # Flower wants letters, digits and hyphens: the checkout's own name may be anything
APP = "fedbreast/fedbreast"
"""Publisher and name: what Flower calls the app."""

_APP = ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared", "configs")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An app's bundle: the SHA-256 of its bytes, its name and version, the version alone, the number of files."""

    sha256: str
    name: str
    version: str
    files: int


def stage_app(root: Path, stage: Path) -> Path:
    """Copy what Flower ships to a folder with a name it accepts; a later edit of the checkout then changes no run."""
    stage.mkdir(parents=True)
    for name in _APP:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, stage / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.is_file():
            shutil.copy2(source, stage / name)
    if not (stage / "pyproject.toml").is_file():
        raise RunError(f"{root} is no FedBreast checkout (no pyproject.toml): call from there or set FEDBREAST_ROOT")
    return stage


def digest_of(bundle: bytes) -> str:
    """The content hash of an app: SHA-256 of its bundle, as Flower names it too."""
    return hashlib.sha256(bundle).hexdigest()


def open_bundle(path: Path) -> Bundle:
    """Read a bundle (`.fab`), or bundle a checkout; no code of it is imported.

    Raises
    ------
    ConfigError
        It is neither.

    """
    if path.is_file():
        return read_bundle(path.read_bytes(), str(path))
    if not (path / "pyproject.toml").is_file():
        raise ConfigError(f"{path} is neither an app's bundle nor a checkout: name a .fab file or the project's folder")
    build = flower_internal("flwr.cli.build:build_fab_from_disk")
    with tempfile.TemporaryDirectory() as scratch:
        return read_bundle(build(stage_app(path, Path(scratch) / STAGE)), str(path))


def read_bundle(bundle: bytes, called: str) -> Bundle:
    """Read what a bundle says of itself; nothing is unpacked.

    Raises
    ------
    ConfigError
        It is none; the message names it as it is `called`.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            project = tomllib.loads(archive.read("pyproject.toml").decode())["project"]
            files = len([item for item in archive.namelist() if not item.startswith(".info/")])
            version = str(project.get("version", "?"))
    except (zipfile.BadZipFile, KeyError, AttributeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{called} is not an app's bundle") from error
    return Bundle(digest_of(bundle), f"{project.get('name', '?')} {version}", version, files)
