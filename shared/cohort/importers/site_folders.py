"""Write site folders from the rows of an importer: one table per centre, with paths to the dataset's images."""

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
class ImportCounts:
    """Number of cases written by site, and of cases left out by reason."""

    cases: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def import_dataset(importer: Importer, root: Path, out: Path) -> ImportCounts:
    """Write one site folder per centre of a dataset below `out`; the dataset itself is only read.

    Each table is read back, so that an import succeeds only with tables that `fedbreast check` accepts. `SiteError` is
    raised if `root` is another dataset, a folder to be written exists already, or a table has a fault (`TableError`).
    """
    if not root.is_dir():
        state = "is a file; unpack it and name the folder" if root.exists() else "does not exist"
        raise SiteError(f"{root} {state}; {importer.title} is expected there: {importer.expects}")
    tables: dict[str, list[dict[str, str]]] = {}
    counts = ImportCounts()
    for item in importer.read(root):
        if isinstance(item, LeftOut):
            counts.left_out[item.reason] += 1
        else:
            tables.setdefault(site_name(item.centre), []).append(dict(item.cells))
    if not tables:
        reasons = "".join(f"; left out: {count} ({reason})" for reason, count in sorted(counts.left_out.items()))
        raise SiteError(f"{root} holds no case of {importer.title}{reasons}; expected there: {importer.expects}")
    if there := [name for name in tables if (out / name).exists()]:
        raise SiteError(f"{out} already holds {', '.join(sorted(there))}: use them, or name another folder with --out")
    for name, rows in tables.items():
        columns = list(dict.fromkeys([*REQUIRED, *(column for row in rows for column in row)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        settings = {"site": {"name": name, "kind": "hospital", "images": str(root.resolve())}}
        replace_file(out / name / TABLE_NAME, text.getvalue().encode(), name)
        replace_file(out / name / SITE_FILE, tomli_w.dumps(settings).encode(), name)
        counts.cases[name] = len(read_manifest(out / name, root))
    return counts


def site_name(centre: str) -> str:
    """Name of a centre as a site's name: lower case letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", centre.strip().casefold()).strip("-")
    return name[:_LONGEST_NAME].rstrip("-") or "centre"
