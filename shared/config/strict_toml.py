"""Strict reading of TOML: an unknown key is refused with its path and the closest valid name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from shared.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
_LONGEST = 1 << 18
_MOST_DOTS = 1000
"""Of one line: the time to read a key grows with the square of its parts."""


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Parse a TOML file; `what` names the kind of file in messages.

    `ConfigError` where the file is missing (the message lists the TOML files beside it) or is not TOML in UTF-8. A byte
    order mark before it, as Notepad writes one, is no matter.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        known = sorted(item.name for item in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = f"; found there: {', '.join(known)}" if known else ""
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: it is not UTF-8 text") from error
    try:
        return parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """As `tomllib.loads`; what is too long, or nested too deeply, is a `TOMLDecodeError` too."""
    if len(text) > _LONGEST:
        raise tomllib.TOMLDecodeError(f"it has more than {_LONGEST} characters")
    try:
        if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
            raise RecursionError
        parsed = tomllib.loads(text)
        repr(parsed)  # what is read without recursion must be walked afterwards
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    return parsed


def validated(model: type[M], raw: Any, source: str, section: str = "", others: Collection[str] = ()) -> M:
    """Check a parsed file, or a section of it, against its model.

    `source` and `section` name the file, and the section of it, in messages; `others` are keys beside the model's that
    may stand there too, as they were taken out before. `ConfigError` where a key is unknown, missing or out of range;
    the message has each key's full path.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        errors = error.errors()
        # A refused item also makes its list too short: report only the item's own error.
        inner = {item["loc"][:depth] for item in errors for depth in range(1, len(item["loc"]))}
        faults = [item for item in errors if item["loc"] not in inner]
        told = "; ".join(_explain(model, item, section, others) for item in faults)
        raise ConfigError(f"{source}: {told}") from error


def _explain(model: type[BaseModel], item: Any, section: str, others: Collection[str]) -> str:
    """One pydantic error as a path, what is wrong, and the remedy."""
    parts = [*([section] if section else []), *(str(part) for part in item["loc"])]
    path = ".".join(parts) or "the file"
    if item["type"] == "extra_forbidden":
        parents = item["loc"][:-1]
        names = sorted([*_field_names(model, parents), *(() if parents else others)])
        near = difflib.get_close_matches(parts[-1], names, n=1, cutoff=0.4)
        hint = f"did you mean '{'.'.join([*parts[:-1], near[0]])}'?" if near else f"valid keys here: {', '.join(names)}"
        return f"unknown key '{path}'; {hint}"
    if item["type"] == "missing":
        return f"'{path}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    value = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
    return f"'{path}': {message}{value}"


def _field_names(model: type[BaseModel], parents: tuple[str | int, ...]) -> list[str]:
    """Valid keys of the section at `parents`; a number stands for an item of a list of sections."""
    section = model
    for part in parents:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return list(section.model_fields)
