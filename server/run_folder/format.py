"""The format of what lies on disk: a run or a study of another version is refused in one line, not half read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.atomic_files import replace_file
from shared.errors import ConfigError, RunError

_T = TypeVar("_T")

FORMAT = 2
"""Raised when a file of a run or a study changes so that older code, or newer code with older files, reads it wrongly.

1: until November 2026; no `format.json`. 2: one row for each case in every per-case table, pictures by task.
"""
_FILE = "format.json"
_OF_FORMAT_1 = ("config.toml", "study.toml", "cells.json", "results.json", "journal")


def write_format(folder: Path) -> None:
    """Say in which format a new run or study is written."""
    replace_file(folder / _FILE, json.dumps({"format": FORMAT}).encode(), folder.name)


def check_format(folder: Path) -> None:
    """Raise `ConfigError` where a folder is none of a run or study, or of an older or a newer format."""
    try:
        written = int(json.loads((folder / _FILE).read_text(encoding="utf-8"))["format"])
    except FileNotFoundError:
        if not any((folder / name).exists() for name in _OF_FORMAT_1):
            raise ConfigError(f"{folder.name} holds no run and no study: name a folder below runs/") from None
        written = 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder.name}/{_FILE} cannot be read: restore it from a copy") from error
    if written != FORMAT:
        raise ConfigError(
            f"{folder.name} is of format {written}, and this version reads format {FORMAT}: open it with the version "
            "that wrote it (`git` in its results.json or provenance.json), or run it again"
        )


def read_json(file: Path, kind: TypeAdapter[_T], name: str, hint: str = "") -> _T:
    """Read a JSON file of a run or a study; messages call it by `name`.

    `RunError` where it is absent, then with the `hint`, or not of its `kind`: one line, with the first fault's place.
    """
    try:
        return kind.validate_json(file.read_bytes())
    except OSError as error:
        raise RunError(f"{name} cannot be read: {error.strerror}{hint}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        what = f"'{where}': {fault['msg']}" if where else fault["msg"]
        raise RunError(f"{name} cannot be read: it is damaged ({what}); restore it from a copy") from error
