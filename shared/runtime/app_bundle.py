"""The app's bundle, made from a checkout as `flwr run` makes it, and the hash by which hospitals approve it."""

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

STAGE = "fedbreast"  # Flower accepts letters, digits and hyphens; the checkout's own name may be anything
APP = "fedbreast/fedbreast"
"""Publisher and name, by which Flower knows the app."""

_APP = ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared", "configs")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An app's bundle: SHA-256 of its bytes, name with version, version, number of files."""

    sha256: str
    name: str
    version: str
    files: int


def stage_app(root: Path, stage: Path) -> Path:
    """Copy what Flower ships into a folder whose name it accepts; later edits of the checkout then affect no run."""
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
    """The content hash of an app: SHA-256 of its bundle, which is also Flower's name for it."""
    return hashlib.sha256(bundle).hexdigest()


def open_bundle(path: Path) -> Bundle:
    """Read a bundle (`.fab`), or make one of a checkout; none of its code is imported.

    Raises
    ------
    ConfigError
        The path is neither.

    """
    if path.is_file():
        return read_bundle(path.read_bytes(), str(path))
    if not (path / "pyproject.toml").is_file():
        raise ConfigError(f"{path} is neither an app's bundle nor a checkout: name a .fab file or the project's folder")
    build = flower_internal("flwr.cli.build:build_fab_from_disk")
    with tempfile.TemporaryDirectory() as scratch:
        return read_bundle(build(stage_app(path, Path(scratch) / STAGE)), str(path))


def read_bundle(bundle: bytes, name: str) -> Bundle:
    """Read a bundle's name, version and number of files; nothing is unpacked. Messages call it by `name`.

    Raises
    ------
    ConfigError
        It is no bundle; the message calls it by `name`.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            project = tomllib.loads(archive.read("pyproject.toml").decode())["project"]
            files = len([item for item in archive.namelist() if not item.startswith(".info/")])
            version = str(project.get("version", "?"))
    except (zipfile.BadZipFile, KeyError, AttributeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{name} is not an app's bundle") from error
    return Bundle(digest_of(bundle), f"{project.get('name', '?')} {version}", version, files)
