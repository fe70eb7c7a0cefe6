"""Versions of what decides a site's numbers: whole numbers under names of a closed list, compared on joining."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from shared.messages.payload import whole_numbers

Versions = Mapping[str, tuple[int, ...]]

AGREED = {"python": 2, "flwr": 3, "torch": 3, "monai": 3, "numpy": 1, "SimpleITK": 1}
"""How many parts of each version must be the same at every site: other networks and messages are another federation."""
_TOLD = 3
"""Parts that are told."""


def own_versions() -> dict[str, tuple[int, ...]]:
    """The versions here; a package that is not installed has none."""
    found: dict[str, tuple[int, ...]] = {"python": (sys.version_info.major, sys.version_info.minor)}
    for name in AGREED:
        if name == "python":
            continue
        try:
            found[name] = version_parts(metadata.version(name))
        except metadata.PackageNotFoundError:
            found[name] = ()
    return found


def version_parts(text: str) -> tuple[int, ...]:
    """The leading digits of a version's first three parts: `2.13.0+cpu` is `(2, 13, 0)`."""
    parts = []
    for part in text.split(".")[:_TOLD]:
        digits = re.match("[0-9]+", part, re.ASCII)
        if digits is None:
            break
        parts.append(int(digits.group()))
    return tuple(parts)


def read_versions(found: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Versions as a message holds them.

    `TypeError` where one is no list of whole numbers, `ValueError` where one has more than three or is not in the list.
    """
    read = {name: whole_numbers(value) for name, value in found.items()}
    if not set(read) <= set(AGREED) or any(len(parts) > _TOLD for parts in read.values()):
        raise ValueError("not a version of the closed list")
    return read


def differences(theirs: Versions, ours: Versions) -> str:
    """What a site runs that this server does not, in words; empty where they may work together."""
    wrong = [
        f"{name} {_shown(theirs.get(name, ()))}, the server {_shown(ours[name])}"
        for name, agreed in AGREED.items()
        if theirs.get(name, ())[:agreed] != ours[name][:agreed]
    ]
    return f"runs {'; '.join(wrong)}: install the versions of constraints.txt" if wrong else ""


def _shown(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts)) or "of no known version"
