"""Cases that were checked, remembered in the site's cache: a stopped check goes on where it was.

A case is read again if a file of it, its row or this program changed. Beside them lie what tells the data manager, and
nobody else, who a row is.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

import shared
from shared.atomic_files import write_atomically, writing
from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, MaskKind
from shared.dicom.index import list_files
from shared.errors import RunError
from shared.modalities import modality_named
from shared.modalities.checked_case import CheckedCase, Panel
from shared.preprocessing.cache import CACHE, Entry, get_or_make, open_array
from shared.preprocessing.prepare import as_study_error
from shared.runtime.project import cache_root

_ROWS, _COLUMNS = "rows.csv", "columns.csv"


def memory_of(site: Path) -> Path:
    """Where the checks of a site folder are remembered; the name is a hash of its path."""
    return cache_root() / "checks" / hashlib.sha256(os.fsencode(site.resolve())).hexdigest()[:16]


def check_case(case: Case, memory: Path) -> CheckedCase:
    """What is seen of a case, from memory if nothing of it changed; `RunError` if the cache has no space left."""
    folder = memory / name_of(case)
    facts = get_or_make(cache_root(), folder, lambda: _entry(look_at(case)))
    titles = facts.pop("titles")
    panels = [
        Panel(title, np.asarray(open_array(folder, f"grey_{index}")), np.asarray(open_array(folder, f"lines_{index}")))
        for index, title in enumerate(titles)
    ]
    return CheckedCase.from_dict(facts, panels)


def look_at(case: Case) -> CheckedCase:
    """Read a case; what cannot be used is noted with its reason, as `prepare` notes it."""
    seen = CheckedCase()
    try:
        modality_named(case.modality).check(case, seen)
    except RunError:
        raise
    except Exception as error:  # noqa: BLE001 - as `each_case` does: one unusual study must not end the check
        fault = as_study_error(error)
        seen.reason, seen.detail = fault.reason, fault.detail
    return seen


def _entry(seen: CheckedCase) -> Entry:
    arrays: dict[str, Any] = {}
    for index, one in enumerate(seen.panels):
        arrays |= {f"grey_{index}": one.grey, f"lines_{index}": one.lines}
    return arrays, seen.to_dict() | {"titles": [one.title for one in seen.panels]}


def name_of(case: Case) -> str:
    """Name of a case's entry: a hash of its row but for its number, of its files' sizes and times, and of the code."""
    parts = [program(), case.modality, case.row.model_dump_json(exclude={"row"})]
    for path in files_of(case):
        try:
            status = path.stat()
        except OSError:  # a link that leads nowhere: the check says so
            parts.append(str(path))
        else:
            parts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def files_of(case: Case) -> list[Path]:
    """All files that a case may be read from: images and masks."""
    if case.path is None:
        images = list(case.files)
    else:  # a folder, or what begins so
        prefix = f"{glob.escape(case.path.name)}*"
        places = [case.path] if case.path.is_dir() else list(case.path.parent.glob(prefix))
        images = [item for place in places for item in (list_files(place) if place.is_dir() else [place])]
    kinds: tuple[MaskKind, ...] = get_args(MaskKind)
    return sorted({*images, *(path for kind in kinds for path in case.mask_files(kind))})


@cache
def program() -> str:
    """Hash of the code that reads: after an update every case is read again."""
    root = Path(shared.__file__).parent
    code = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return code.hexdigest()


def forget_others(memory: Path, cases: Iterable[Case]) -> None:
    """Remove what is remembered of cases that are no longer there, or have changed."""
    kept = {name_of(case) for case in cases}
    for entry in memory.iterdir() if memory.is_dir() else ():
        if entry.is_dir() and entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)


def write_who_is_who(memory: Path, rows: Sequence[CaseRow], keys: Mapping[int, str], columns: Sequence[str]) -> Path:
    """Write who each row is, and the names of the table's columns, for the data manager alone (mode 0600).

    `keys` are the pseudonyms by row. It never leaves this machine: neither page nor JSON repeat any of it.
    """
    listed = [
        [row.row, row.patient_id, row.exam, row.side, row.modality, row.path, keys.get(row.row, "")] for row in rows
    ]
    head = ["row", "patient_id", "exam", "side", "modality", "path", "pseudonym"]
    _write(memory / _COLUMNS, [["field", "name"], *([place, name] for place, name in enumerate(columns, start=1))])
    return _write(memory / _ROWS, [[*head, "pseudonym"], *listed])


def _write(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    with writing(CACHE):
        write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), mode=0o600)
        path.parent.chmod(0o700)
    return path
