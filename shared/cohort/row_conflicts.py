"""Rows of a table that contradict each other: labels of one breast, a case twice, a patient in two splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shared.cohort.exam_dates import same_day
from shared.errors import TableError

if TYPE_CHECKING:
    from shared.cohort.manifest import CaseRow

LABELS = ("er", "pr", "her2", "subtype", "ki67_percent", "malignant", "density")
Key = tuple[str, ...]


def conflicts(rows: Sequence[CaseRow], file: str) -> Iterator[TableError]:
    """Faults between rows; each names the row that came first."""
    first: dict[Key, CaseRow] = {}
    for row in rows:
        breast = (row.patient_id, same_day(row.exam), row.side)
        for column in (*LABELS, *row.other):
            value = _label(row, column)
            other = row if value is None else first.setdefault(("label", *breast, column), row)
            if value != _label(other, column):
                message = f"differs from row {other.row}, which is the same breast of the same exam; keep the right one"
                yield TableError(message, file=file, row=row.row, column=column)
        other = first.setdefault(("case", *breast, row.modality), row)
        if other is not row:
            message = (
                f"the same breast of the same exam as row {other.row}; take one out, or tell the exams apart in 'exam'"
            )
            yield TableError(message, file=file, row=row.row)
        other = first.setdefault(("split", row.patient_id), row)
        if other.split != row.split:
            message = (
                f"not the split of row {other.row}, which is the same patient; all rows of a patient share one split"
            )
            yield TableError(message, file=file, row=row.row, column="split")
        place = _place(row)
        other = first.setdefault(("images", place, row.modality, row.side), row) if place else row
        if other is not row and other.patient_id == row.patient_id:
            message = f"the same images and breast as row {other.row}; take one out, or name the other exam's path"
            yield TableError(message, file=file, row=row.row, column="path")


def doubts(rows: Sequence[CaseRow]) -> Iterator[tuple[int, str]]:
    """Row and words of what is doubtful between rows, but may be right."""
    patients: dict[str, CaseRow] = {}
    masks: dict[str, CaseRow] = {}
    paths: dict[str, CaseRow] = {}
    for row in rows:
        other = paths.setdefault(_place(row), row) if _place(row) else row
        if other.patient_id != row.patient_id:
            yield row.row, f"its path is that of row {other.row}, which is another patient"
        other = patients.setdefault(plain_id(row.patient_id), row)
        if other.patient_id != row.patient_id:
            message = (
                f"its patient_id is that of row {other.row} but for leading zeros, blanks or case: if both are one "
                "patient, write it alike, or the patient may be in two splits"
            )
            yield row.row, message
        other = masks.setdefault(row.mask, row) if row.mask else row
        if other.patient_id != row.patient_id:
            yield row.row, f"its mask is that of row {other.row}, which is another patient"


def plain_id(text: str) -> str:
    """An identifier without what spreadsheets and people lose: case, blanks, punctuation, leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "", text.casefold()))


def _place(row: CaseRow) -> str:
    return row.path.strip("/").removeprefix("./")


def _label(row: CaseRow, column: str) -> object:
    return row.other.get(column, getattr(row, column, None))
