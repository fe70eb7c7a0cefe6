"""Table of importers. An importer turns a public dataset, as downloaded, into one site folder per centre.

To add one, write its file in this folder and add it to the table; `fedbreast import` then offers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from shared.errors import ConfigError

IMPORTERS: dict[str, str] = {
    "cbis-ddsm": "shared.cohort.importers.cbis_ddsm",
    "cmmd": "shared.cohort.importers.cmmd",
}
"""Module of each importer by its name; it holds the importer as `IMPORTER`."""


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A row of a centre's `cases.csv`: cells by column, paths relative to the dataset's root."""

    centre: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case that is not imported; the reason contains no identifier."""

    reason: str


@dataclass(frozen=True, slots=True)
class Importer:
    """Importer of one dataset.

    Attributes
    ----------
    name, title
        Name in the command, and name shown to people.
    licence, source
        Terms of use, and where the dataset can be downloaded.
    expects
        One sentence on the contents of the dataset's folder, shown if a folder has other contents.
    read
        Yields the cases below the dataset's root. Paths point to the images, which are never copied. Raises `SiteError`
        for another folder, with what was expected and what it contains.

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
        raise ConfigError(f"there is no importer '{name}'; there are: {', '.join(IMPORTERS)}")
    importer: Importer = import_module(IMPORTERS[name]).IMPORTER
    return importer
