"""From an importer's rows to site folders: a table for each centre that points at the dataset's images."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from shared.atomic_files import replace_file
from shared.cohort.importers import Importer, LeftOut
from shared.cohort.manifest import REQUIRED, TABLE_NAME, read_manifest
from shared.cohort.site_folder import SITE_FILE
from shared.errors import SiteError

_LONGEST_NAME = 32


@dataclass(slots=True)
class Imported:
    """Cases written by site, and those left out by reason."""

    cases: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def import_dataset(importer: Importer, root: Path, out: Path) -> Imported:
    """Write one site folder for each centre of a dataset below `out`; the dataset itself is only read.

    Each table is read back before it counts, so that what is written is what `fedbreast check` accepts.

    Raises
    ------
    SiteError
        `root` is not such a dataset, a folder to be written is there already, or a table has a fault (`TableError`).

    """
    if not root.is_dir():
        raise SiteError(f"{root} does not exist; {importer.title} is expected there: {importer.expects}")
    tables: dict[str, list[dict[str, str]]] = {}
    imported = Imported()
    for item in importer.read(root):
        if isinstance(item, LeftOut):
            imported.left_out[item.reason] += 1
        else:
            tables.setdefault(site_name(item.centre), []).append(dict(item.cells))
    if not tables:
        raise SiteError(f"{root} holds no case of {importer.title}; expected there: {importer.expects}")
    if there := [name for name in tables if (out / name).exists()]:
        raise SiteError(f"{out} already holds {', '.join(sorted(there))}: name another folder with --out")
    for name, rows in tables.items():
        columns = list(dict.fromkeys([*REQUIRED, *(column for row in rows for column in row)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        settings = {"site": {"name": name, "kind": "hospital", "images": str(root.resolve())}}
        replace_file(out / name / TABLE_NAME, text.getvalue().encode(), name)
        replace_file(out / name / SITE_FILE, tomli_w.dumps(settings).encode(), name)
        imported.cases[name] = len(read_manifest(out / name, root))
    return imported


def site_name(centre: str) -> str:
    """A centre's name as a site of the federation may be called: lower case, digits, hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", centre.strip().casefold()).strip("-")
    return name[:_LONGEST_NAME].rstrip("-") or "centre"
