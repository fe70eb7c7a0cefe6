"""`cases.csv`: one row per case (one breast of one exam), checked as a whole before any image is read.

Known columns (`patient_id` and `side` are required) are listed below. Other columns that a task of the run learns from
are read into `CaseRow.other`; the rest is kept as text in `CaseRow.extra`:
patient_id, exam (StudyDate, AccessionNumber or StudyInstanceUID), side, modality, path, mask, breast_mask,
fibroglandular_mask, acquisition_times (s, NIfTI only), er, pr, her2 (IHC score or status), her2_fish, ki67_percent,
subtype, malignant, age (years), density, manufacturer, field_strength_t, split.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from shared.cohort.labels import CaseLabels, Label, contradicts
from shared.cohort.row_reader import RowReader, read_her2_column, read_ki67_column
from shared.cohort.table import Table, read_table
from shared.cohort.vocabulary import DENSITY, MALIGNANT, MODALITY, RECEPTOR, SIDE, SPLIT, SUBTYPE
from shared.dicom.values import normalise_manufacturer
from shared.errors import ConfigError, TableError
from shared.types import Side, Split

TABLE_NAME = "cases.csv"
REQUIRED = ("patient_id", "side")
PATH_COLUMNS = ("path", "mask", "breast_mask", "fibroglandular_mask")
KNOWN = (
    *("patient_id", "exam", "side", "modality", *PATH_COLUMNS, "acquisition_times", "er", "pr", "her2", "her2_fish"),
    *("ki67_percent", "subtype", "malignant", "age", "density", "manufacturer", "field_strength_t", "split"),
)
_LABELS = ("er", "pr", "her2", "subtype", "ki67_percent", "malignant", "density")
_LONGEST_AGE = 120.0
_STRONGEST_FIELD_T = 12.0


class CaseRow(BaseModel):
    """One row of the table with canonical labels; None means missing. Identifying fields are not in its `repr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(description="Row of the table; 1 is the header.")
    patient_id: str = Field(repr=False)
    exam: str = Field(repr=False)
    side: Side
    modality: str
    path: str = Field(repr=False)
    mask: str = Field(repr=False)
    breast_mask: str = Field(default="", repr=False)
    fibroglandular_mask: str = Field(default="", repr=False)
    acquisition_times_s: tuple[float, ...] | None = None
    er: bool | None = None
    pr: bool | None = None
    her2: bool | None = None
    ki67_percent: float | None = None
    subtype: str | None = None
    malignant: bool | None = None
    age: float | None = None
    density: str | None = None
    manufacturer: str | None = None
    field_strength_t: float | None = None
    split: Split | None = None
    extra: dict[str, str] = Field(default_factory=dict, repr=False)
    other: dict[str, float] = Field(default_factory=dict, description="Further labels that are known: 0 or 1, numbers.")

    @property
    def labels(self) -> CaseLabels:
        """The row's labels."""
        return CaseLabels(
            self.er, self.pr, self.her2, self.ki67_percent, self.subtype, self.malignant, self.density, other=self.other
        )


@dataclass(frozen=True, slots=True)
class Flag:
    """A doubt about a row that does not stop the run; the message never contains a cell of the table."""

    row: int
    message: str


def read_manifest(site_dir: Path, images: Path | None = None) -> tuple[CaseRow, ...]:
    """Read the rows of a site's `cases.csv`; see `read_manifest_with_flags`."""
    return read_manifest_with_flags(site_dir, images)[0]


def read_manifest_with_flags(
    site_dir: Path, images: Path | None = None, labels: Sequence[Label] = ()
) -> tuple[tuple[CaseRow, ...], tuple[Flag, ...]]:
    """Read and check a site's `cases.csv`; no image is read.

    Paths are relative to the folder `images`, by default the site's, and must stay inside it. `labels` are those of the
    run's tasks, which may be columns that are not known here.

    Raises
    ------
    ConfigError
        A label of such a column has classes.
    TableError
        With file, row and column of the first fault: wrong number of fields, unknown word, path outside the folder,
        conflict of units, one breast of one exam in two rows or with two labels, patient in two splits.

    """
    table = read_table(site_dir / TABLE_NAME, known=KNOWN, required=REQUIRED)
    further = [label for label in labels if label.name not in _LABELS]
    if classes := [label.name for label in further if label.kind == "classes"]:
        raise ConfigError(f"label '{classes[0]}': a column of classes is read only where the table knows it")
    flags = _doubtful_columns(table, {label.name for label in further})
    scores = read_her2_column(table)
    proliferation = read_ki67_column(table)
    rows = []
    for number, cells in table.rows:
        reader = RowReader(table.file, number, cells, decimal_comma=table.delimiter != ",")
        her2, contradictory = scores[number]
        if contradictory:
            flags.append(Flag(number, "her2 and her2_fish contradict each other: HER2 is taken as missing"))
        row = _read_row(reader, (images or site_dir).resolve(), her2, proliferation[number], further)
        if row.subtype is not None and contradicts(row.subtype, row.labels):
            flags.append(Flag(number, "subtype contradicts the receptors"))
        rows.append(row)
    if not rows:
        raise TableError("no row below the header", file=table.file)
    _refuse_conflicting_labels(rows, table.file)
    _refuse_duplicates(rows, table.file)
    _refuse_conflicting_splits(rows, table.file)
    return tuple(rows), tuple(flags)


def _read_row(
    reader: RowReader, root: Path, her2: bool | None, ki67: float | None, further: Sequence[Label]
) -> CaseRow:
    vendor = reader.text("manufacturer")
    other = {label.name: _read_label(reader, label) for label in further}
    return CaseRow(
        row=reader.row,
        patient_id=reader.identifier("patient_id"),
        exam=reader.text("exam"),
        side=reader.word_required("side", SIDE, hint="one row a breast: left or right"),
        modality=reader.word("modality", MODALITY) or "MR",
        **{column: reader.path(column, root) for column in PATH_COLUMNS},
        acquisition_times_s=reader.times("acquisition_times"),
        er=reader.word("er", RECEPTOR),
        pr=reader.word("pr", RECEPTOR),
        her2=her2,
        ki67_percent=ki67,
        subtype=reader.word("subtype", SUBTYPE),
        malignant=reader.word("malignant", MALIGNANT),
        age=reader.number("age", 0.0, _LONGEST_AGE, unit="years"),
        density=reader.word("density", DENSITY),
        manufacturer=normalise_manufacturer(vendor) if vendor else None,
        field_strength_t=reader.number("field_strength_t", 0.01, _STRONGEST_FIELD_T, unit="tesla"),
        split=reader.word("split", SPLIT),
        extra={name: cell for name, cell in reader.cells.items() if name not in KNOWN},
        other={name: value for name, value in other.items() if value is not None},
    )


def _read_label(reader: RowReader, label: Label) -> float | None:
    if label.kind == "number":
        return reader.number(label.name, -math.inf, math.inf, unit=label.title)
    status = reader.word(label.name, RECEPTOR)
    return None if status is None else float(status)


def _doubtful_columns(table: Table, labels: Collection[str]) -> list[Flag]:
    """Flag unknown columns that look like a misspelt known one, or share a word with it; they are kept unchanged."""
    absent, flags = [item for item in KNOWN if item not in table.columns], []
    for name in table.columns:
        if name in KNOWN or name in labels:
            continue
        alike = [item for item in absent if _words(item) & _words(name)]
        if near := [*difflib.get_close_matches(name, absent, n=1, cutoff=0.8), *alike]:
            flags.append(Flag(1, f"an unknown column is not read: is '{near[0]}' meant? Then rename it"))
    return flags


def _words(column: str) -> set[str]:
    return set(re.findall("[a-z]+[0-9]*", column.lower()))


def _refuse_conflicting_labels(rows: Sequence[CaseRow], file: str) -> None:
    """Refuse rows of one breast (as of MR and mammography) with different labels; one may lack a label."""
    first: dict[tuple[str, str, Side, str], CaseRow] = {}
    for row in rows:
        for column in (*_LABELS, *row.other):
            value = row.other.get(column, getattr(row, column, None))
            other = row if value is None else first.setdefault((row.patient_id, row.exam, row.side, column), row)
            if value != other.other.get(column, getattr(other, column, None)):
                raise TableError(
                    f"differs from row {other.row}, which is the same breast of the same exam; keep the right one",
                    file=file,
                    row=row.row,
                    column=column,
                )


def _refuse_duplicates(rows: Sequence[CaseRow], file: str) -> None:
    first: dict[tuple[str, str, Side, str], int] = {}
    for row in rows:
        other = first.setdefault((row.patient_id, row.exam, row.side, row.modality), row.row)
        if other != row.row:
            raise TableError(
                f"the same breast of the same exam as row {other}; take one out, or tell the exams apart in 'exam'",
                file=file,
                row=row.row,
            )


def _refuse_conflicting_splits(rows: Sequence[CaseRow], file: str) -> None:
    first: dict[str, CaseRow] = {}
    for row in rows:
        other = first.setdefault(row.patient_id, row)
        if other.split != row.split:
            raise TableError(
                f"not the split of row {other.row}, which is the same patient; all rows of a patient share one split",
                file=file,
                row=row.row,
                column="split",
            )
