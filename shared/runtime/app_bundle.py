"""The app's bundle, made from a checkout as `flwr run` makes it, and the hash by which hospitals approve it.

What is hashed is what runs: the source of `client`, `server` and `shared`, the file that starts it, and what Flower
reads of `pyproject.toml`. A bundle with anything else in it is refused.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path

import tomli_w

from shared.errors import ConfigError, RunError
from shared.runtime.children import START
from shared.words import plain

STAGE = "fedbreast"  # Flower accepts letters, digits and hyphens; the checkout's own name may be anything
APP = "fedbreast/fedbreast"
"""Publisher and name, by which Flower knows the app."""

_PACKAGES = ("client", "server", "shared")
_PROJECT = "pyproject.toml"
_MEMBER = re.compile(rf"(({'|'.join(_PACKAGES)})(/\w+)+\.py|{re.escape(START)}|{re.escape(_PROJECT)})", re.ASCII)
_LIST = ".info/CONTENT"  # Flower's own list of the files
_LARGEST = 32 * 2**20
_MOST_FILES = 5000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Bundle:
    """An app's bundle: name with version, version, and its files by path."""

    name: str
    version: str
    files: Mapping[str, bytes]

    @property
    def sha256(self) -> str:
        """The content hash: SHA-256 of the list of files, one line each as `sha256sum` writes it, in order of path.

        The bundle's own bytes would not do: they depend on the version of the library that compressed them.
        """
        lines = [f"{hashlib.sha256(self.files[path]).hexdigest()}  {path}\n" for path in sorted(self.files)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def differences(self, other: Bundle) -> dict[str, str]:
        """How this bundle differs from another: each path that does, with "changed", "new" or "gone"."""
        words = {(True, True): "changed", (True, False): "new", (False, True): "gone"}
        return {
            path: words[path in self.files, path in other.files]
            for path in sorted(self.files.keys() | other.files.keys())
            if self.files.get(path) != other.files.get(path)
        }

    def packed(self) -> bytes:
        """The files as an archive that `read_bundle` reads."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text in self.files.items():
                archive.writestr(path, text)
        return content.getvalue()


def stage_app(root: Path, stage: Path) -> Path:
    """Copy what Flower ships into a folder whose name it accepts; later edits of the checkout then affect no run."""
    if not (root / _PROJECT).is_file():
        raise RunError(f"{root} is no FedBreast checkout (no {_PROJECT}): call from there or set FEDBREAST_ROOT")
    stage.mkdir(parents=True)
    (stage / _PROJECT).write_bytes(_what_flower_reads(root / _PROJECT))
    sources = [file for package in _PACKAGES for file in (root / package).rglob("*.py")]
    for file in (*sources, *root.glob(START)):
        copy = stage / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return stage


def _what_flower_reads(path: Path) -> bytes:
    """Of `pyproject.toml` the name, the version and Flower's own section; the rest runs nowhere."""
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        project = {key: whole["project"][key] for key in ("name", "version")}
        # All that is staged travels, so that no list of it is needed.
        app = {key: value for key, value in whole["tool"]["flwr"]["app"].items() if key != "fab-include"}
        return tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}).encode()
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} describes no app of Flower") from error


def open_bundle(path: Path) -> Bundle:
    """Read a bundle (`.fab`), or make one of a checkout; none of its code is imported.

    Raises
    ------
    ConfigError
        The path is neither; or something lies in the checkout that is not hashed and could be imported all the same.

    """
    if path.is_file():
        return read_bundle(path.read_bytes(), str(path))
    if not (path / _PROJECT).is_file():
        raise ConfigError(f"{path} is neither an app's bundle nor a checkout: name a .fab file or the project's folder")
    refuse_strangers(path)
    with tempfile.TemporaryDirectory() as scratch:
        return staged_bundle(stage_app(path, Path(scratch) / STAGE))


def staged_bundle(stage: Path) -> Bundle:
    """The bundle that Flower makes of a staged app, by its files."""
    return _bundle(
        {path.relative_to(stage).as_posix(): path.read_bytes() for path in stage.rglob("*") if path.is_file()}
    )


def read_bundle(bundle: bytes, name: str) -> Bundle:
    """Read a bundle; nothing is unpacked to the disk. Messages call it by `name`.

    Raises
    ------
    ConfigError
        It is no bundle, or holds what is not the source of an app.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            archive.getinfo(_PROJECT)  # a `KeyError` without
            items = [item for item in archive.infolist() if item.filename != _LIST]
            if len(items) > _MOST_FILES or sum(item.file_size for item in items) > _LARGEST:
                raise ConfigError(f"{name} is larger than {_LARGEST >> 20} MB or {_MOST_FILES} files")
            paths = Counter(item.filename for item in items)
            if strangers := [path for path in sorted(paths) if not _MEMBER.fullmatch(path) or paths[path] > 1]:
                raise ConfigError(f"{name} holds what is not an app's source: {_shown(strangers)}")
            return _bundle({path: archive.read(path) for path in paths})
    except (zipfile.BadZipFile, KeyError, AttributeError, ValueError, NotImplementedError, RuntimeError) as error:
        # The last two are what `zipfile` raises of a compression it does not know and of an encrypted member.
        raise ConfigError(f"{name} is not an app's bundle") from error


def _bundle(files: Mapping[str, bytes]) -> Bundle:
    project = tomllib.loads(files[_PROJECT].decode())["project"]
    version = str(project.get("version", "?"))
    return Bundle(f"{project.get('name', '?')} {version}", version, files)


def refuse_strangers(root: Path) -> None:
    """Raise a `ConfigError` where a checkout holds code that no hash covers and that Python could take all the same."""
    if strangers := sorted(str(path.relative_to(root)) for path in _strangers(root)):
        raise ConfigError(
            f"{root} holds code that is no part of FedBreast and that no hash covers: {_shown(strangers)}. Python "
            "could import it in place of what is approved: find out how it came there, and move it out of the checkout"
        )


def _strangers(root: Path) -> Iterator[Path]:
    """Extensions and bytecode beside our source, bytecode that is not compared with it, modules beside our packages."""
    compiled = (*EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES, ".pyd")
    below = (path for package in _PACKAGES for path in (root / package).rglob("*"))
    for path in (*root.glob("*"), *root.glob("__pycache__/*"), *below):
        if path.parent.name == "__pycache__":
            flags = path.read_bytes()[4:8]  # PEP 552: 1 is bytecode that is never compared with its source
            if path.suffix in BYTECODE_SUFFIXES and flags == b"\1\0\0\0":
                yield path
        elif path.name.endswith(compiled) or (path.parent == root and _is_module(path)):
            yield path


def _is_module(path: Path) -> bool:
    """Whether an entry of the checkout's root is a module or a package that is not ours."""
    return path.name not in {START, *_PACKAGES} and (path.suffix == ".py" or any(path.glob("__init__.*")))


def _shown(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return plain(", ".join(paths[:_SHOWN])) + more
