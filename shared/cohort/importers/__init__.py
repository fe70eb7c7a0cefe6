"""The table of importers: each turns a public dataset, as it is downloaded, into one site folder for each centre.

To add one, write its file here and name it in the table; `fedbreast import` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from shared.errors import ConfigError

IMPORTERS: dict[str, str] = {}
"""Module of each importer by its name; it holds the importer as `IMPORTER`."""


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A row of a centre's `cases.csv`: cells by column, paths relative to the dataset's root."""

    centre: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case that is not imported, and why, in words without an identifier."""

    reason: str


@dataclass(frozen=True, slots=True)
class Importer:
    """One dataset.

    Attributes
    ----------
    name, title
        As the command and as people call it.
    licence, source
        On which terms it may be used, and where it is to be had.
    expects
        What lies in the folder that is imported, in a sentence: shown where it does not.
    read
        From the dataset's root to its cases. Images are pointed at and never copied. Raises `SiteError` where the
        folder is another one, with what was expected and what is there.

    """

    name: str
    title: str
    licence: str
    source: str
    expects: str
    read: Callable[[Path], Iterator[ImportedRow | LeftOut]]


def importer_named(name: str) -> Importer:
    """Return an importer by its name.

    Raises
    ------
    ConfigError
        There is no such importer.

    """
    if name not in IMPORTERS:
        raise ConfigError(f"there is no importer '{name}'; there are: {', '.join(IMPORTERS) or 'none yet'}")
    importer: Importer = import_module(IMPORTERS[name]).IMPORTER
    return importer
