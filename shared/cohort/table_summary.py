"""What `fedbreast check` tells of a table: columns, labels, support of classes, duplicates, patients in two splits.

Columns that are not read are told by their place: their names may be cells of a table without a header.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.cohort.manifest import KNOWN, CaseRow
from shared.cohort.table import Table

_COUNTED = ("er", "pr", "her2", "ki67_percent", "subtype", "malignant", "density", "side", "modality", "split")
_SPLIT_BEFORE = "not given"
_MOST_OF_ONE_NAME = 3
"""Of patients whose images have one PatientID: with more it is taken for a constant of an anonymised export."""
Identity = Mapping[int, Mapping[str, str]]
"""Hashes of what the images say of patient and exam, by row."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A column that is not read: its place in the header from 1, and the nearest known name, or none."""

    field: int
    near: str = ""


@dataclass(frozen=True, slots=True)
class Support:
    """How often a value stands in a column: in all rows, in usable cases, and in these by split."""

    column: str
    value: str
    rows: int
    usable: int
    splits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sentence on some rows, by number: a duplicate, or a patient in two splits."""

    kind: Literal["duplicate", "leak"]
    sentence: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A table at a glance; it holds no cell but words of closed vocabularies."""

    rows: int
    patients: int
    used: tuple[str, ...]
    unread: tuple[Unread, ...]
    support: tuple[Support, ...]
    doubts: tuple[Doubt, ...]


def summarise(
    table: Table, rows: Sequence[CaseRow], usable: Collection[int], identity: Identity, labels: Sequence[str] = ()
) -> TableSummary:
    """Sum up a table; `usable` are the numbers of its rows that are, `labels` further columns that tasks read."""
    used = tuple(name for name in table.columns if name in KNOWN or name in labels)
    counted = [name for name in (*_COUNTED, *(name for name in labels if name not in _COUNTED)) if name in used]
    return TableSummary(
        rows=len(rows),
        patients=len({row.patient_id for row in rows}),
        used=used,
        unread=unread_columns(table.columns, used),
        support=tuple(item for name in counted for item in _support(name, rows, usable)),
        doubts=(*_doubts(rows, identity),),
    )


def unread_columns(columns: Sequence[str], used: Collection[str]) -> tuple[Unread, ...]:
    """Columns that are not read, with the known name that each is nearest to: by spelling, else by a word of it."""
    absent = [name for name in KNOWN if name not in columns]
    unread = []
    for place, name in enumerate(columns, start=1):
        if name not in used:
            alike = [item for item in absent if _words(item) & _words(name)]
            near = [*difflib.get_close_matches(name, absent, n=1, cutoff=0.8), *alike, ""]
            unread.append(Unread(place, near[0]))
    return tuple(unread)


def _words(column: str) -> set[str]:
    return set(re.findall("[a-z]+[0-9]*", column.lower()))


def _support(name: str, rows: Sequence[CaseRow], usable: Collection[int]) -> list[Support]:
    """Values of a column by how often they occur; a number counts as known."""
    values: dict[str, list[CaseRow]] = defaultdict(list)
    for row in rows:
        values[_word(row.other.get(name, getattr(row, name, None)))].append(row)
    support = []
    for value, own in sorted(values.items(), key=lambda item: (item[0] == "missing", item[0])):
        taken = [row for row in own if row.row in usable]
        splits = Counter(row.split or _SPLIT_BEFORE for row in taken)
        support.append(Support(name, value, len(own), len(taken), dict(sorted(splits.items()))))
    return support


def _word(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "positive" if value else "negative"
    return value if isinstance(value, str) else "known"


def _doubts(rows: Sequence[CaseRow], identity: Identity) -> Iterable[Doubt]:
    """What looks like one patient under two names, or one exam in two rows."""
    yield from _one_patient(
        "patient_id in two spellings", _grouped(rows, lambda row: row.patient_id.casefold().lstrip("0 "))
    )
    yield from _one_patient("one folder under two patients", _grouped([row for row in rows if row.path], _place))
    own = _grouped(rows, lambda row: identity.get(row.row, {}).get("patient"))
    yield from _one_patient(
        "images of one PatientID under two patients",
        [group for group in own if len({row.patient_id for row in group}) <= _MOST_OF_ONE_NAME],
    )
    for group in _grouped(rows, lambda row: _exam(row, identity)):
        if len(group) > 1 and len({row.patient_id for row in group}) == 1:
            yield Doubt("duplicate", "the same exam of the same breast", tuple(row.row for row in group))


def _place(row: CaseRow) -> str:
    return f"{row.modality} {row.path.rstrip('/')}"


def _exam(row: CaseRow, identity: Identity) -> Hashable:
    exam = identity.get(row.row, {}).get("exam")
    return exam and (exam, row.side, row.modality)


def _grouped(rows: Sequence[CaseRow], by: Callable[[CaseRow], Hashable]) -> list[list[CaseRow]]:
    groups: dict[Hashable, list[CaseRow]] = defaultdict(list)
    for row in rows:
        if key := by(row):
            groups[key].append(row)
    return list(groups.values())


def _one_patient(sentence: str, groups: Iterable[Sequence[CaseRow]]) -> Iterable[Doubt]:
    """Groups with several patient_ids; where these are of different splits, one patient both trains and tests."""
    for group in groups:
        if len({row.patient_id for row in group}) > 1:
            numbers = tuple(row.row for row in group)
            yield Doubt("duplicate", sentence, numbers)
            if len(splits := {row.split for row in group}) > 1 or None in splits:
                drawn = "can be drawn into" if None in splits else "stands in"
                yield Doubt("leak", f"{sentence}: one patient {drawn} two splits", numbers)
