"""All faulty rows of a table at once, so that a data manager mends them in one go."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from shared.cohort.manifest import KNOWN, TABLE_NAME, read_manifest_with_flags
from shared.cohort.refused_cells import keeping_the_cells
from shared.cohort.site_folder import open_site_folder
from shared.cohort.table import _decode, _header, _read
from shared.errors import TableError
from shared.site_check.site_report import task_labels

_MOST = 40
"""Faults that are told at once: the table is read once for each."""


def all_faults(folder: Path, first: TableError) -> TableError:
    """The `first` fault of a site's table with those of all other rows; itself where there is no other.

    A faulty row is blanked in a copy, which is read again: a row has one fault at a time. What stands in the faulty
    cells goes to one file on this machine (`refused_cells`).
    """
    if first.row is None or first.row == 1:
        return first
    site = open_site_folder(folder)
    text = _decode(_read(site.path / TABLE_NAME), TABLE_NAME)
    delimiter = _header(text, TABLE_NAME, KNOWN)[1]
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return first
    labels = task_labels()
    faults: list[TableError] = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, TABLE_NAME)
        while len(faults) < _MOST:
            written = io.StringIO(newline="")
            csv.writer(written, delimiter=delimiter).writerows(records)
            copy.write_text(written.getvalue(), encoding="utf-8", newline="")
            try:
                read_manifest_with_flags(copy.parent, site.images, labels)
            except TableError as error:
                if error.row is None or not 1 < error.row <= len(records) or not records[error.row - 1]:
                    break  # of the whole table, as when no row is left
                faults.append(error)
                records[error.row - 1] = []
            else:
                break
    if len(faults) <= 1:
        return first
    where = keeping_the_cells(site.path, faults)
    more = f" and maybe more: the first {_MOST} are shown" if len(faults) == _MOST else ""
    lines = [f"\n  {fault.where}: {fault.message}" for fault in sorted(faults, key=lambda item: item.row or 0)]
    kept = f"\nwhat stands there is in {where}, which never leaves this machine" if where else ""
    return TableError(f"{len(faults)} rows are at fault{more}:{''.join(lines)}{kept}", file=TABLE_NAME)
