"""`cases.csv`: one row per case (one breast of one exam), checked as a whole before any image is read.

Known columns (`patient_id` and `side` are required) are listed below. Other columns that a task of the run learns from
are read into `CaseRow.other`; the rest is kept as text in `CaseRow.extra`:
patient_id, exam (StudyDate, AccessionNumber or StudyInstanceUID), side, modality, path, mask, breast_mask,
fibroglandular_mask, acquisition_times (s, NIfTI only), er, pr, her2 (IHC score or status), her2_fish, ki67_percent,
subtype, malignant, age (years), density, manufacturer, field_strength_t, split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.cohort.columns import UnusedColumn, unused_columns
from shared.cohort.exam_dates import possible_dates
from shared.cohort.labels import CaseLabels, Label, contradicts
from shared.cohort.row_conflicts import LABELS, conflicts, doubts
from shared.cohort.row_reader import RowReader, noting, read_her2_column, read_ki67_column, refuse_codes
from shared.cohort.table import MOST_FAULTS, read_table, refuse
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


@dataclass(frozen=True, slots=True)
class Manifest:
    """A table's rows, what is doubtful in it, and which of its columns are read and which are not."""

    rows: tuple[CaseRow, ...]
    flags: tuple[Flag, ...]
    used: tuple[str, ...]
    unused: tuple[UnusedColumn, ...]


def read_manifest(site_dir: Path, images: Path | None = None) -> tuple[CaseRow, ...]:
    """Read the rows of a site's `cases.csv`; see `read_whole_manifest`."""
    return read_whole_manifest(site_dir, images).rows


def read_manifest_with_flags(
    site_dir: Path, images: Path | None = None, labels: Sequence[Label] = ()
) -> tuple[tuple[CaseRow, ...], tuple[Flag, ...]]:
    """Read a site's `cases.csv`, and what is doubtful in it; see `read_whole_manifest`."""
    manifest = read_whole_manifest(site_dir, images, labels)
    return manifest.rows, manifest.flags


def read_whole_manifest(site_dir: Path, images: Path | None = None, labels: Sequence[Label] = ()) -> Manifest:
    """Read and check a site's `cases.csv`; no image is read.

    Paths are relative to the folder `images`, by default the site's, and must stay inside it. `labels` are those of the
    run's tasks, which may be columns that are not known here.

    Raises
    ------
    ConfigError
        A label of such a column has classes.
    TableError
        With file, row and column of all faults: wrong number of fields, unknown word or ambiguous code, path outside
        the folder, conflict of units, one breast of one exam in two rows or with two labels, patient in two splits, one
        path of two patients.

    """
    further = [label for label in labels if label.name not in LABELS]
    if classes := [label.name for label in further if label.kind == "classes"]:
        raise ConfigError(f"label '{classes[0]}': a column of classes is read only where the table knows it")
    faults: list[TableError] = []
    table = read_table(site_dir / TABLE_NAME, known=KNOWN, required=REQUIRED, faults=faults)
    names = [label.name for label in further]
    unused = unused_columns(table.columns, KNOWN, names)
    flags = [
        Flag(1, f"column {item.place} is not read: is '{item.near}' meant? Then rename it")
        for item in unused
        if item.near
    ]
    words = ("er", "pr", "her2_fish", "malignant", *(label.name for label in further if label.kind == "binary"))
    refuse_codes(table, words, faults)
    scores = read_her2_column(table, faults)
    proliferation = read_ki67_column(table, faults)
    plain = {cells.get("her2", "").strip() for _, cells in table.rows} - {""}
    if "1" in plain and plain <= {"0", "1"}:
        flags.append(
            Flag(1, "her2 holds 0 and 1 alone, read as negative and positive; scores are written 0, 1+, 2+, 3+")
        )
    rows = []
    for number, cells in table.rows:
        reader = RowReader(table.file, number, cells, decimal_comma=table.delimiter != ",")
        her2, contradictory = scores.get(number, (None, False))
        if contradictory:
            flags.append(Flag(number, "her2 and her2_fish contradict each other: HER2 is taken as missing"))
        row = _read_row(reader, (images or site_dir).resolve(), her2, proliferation.get(number), further, faults)
        if row is None:
            continue
        if row.subtype is not None and contradicts(row.subtype, row.labels):
            flags.append(Flag(number, "subtype contradicts the receptors"))
        if not row.path and len(possible_dates(row.exam)) > 1:
            flags.append(
                Flag(number, "'exam' can be read as two days, and is where an exam of one lies there; write YYYYMMDD")
            )
        rows.append(row)
        if len(faults) >= MOST_FAULTS:
            break
    faults += conflicts(rows, table.file)
    refuse(faults)
    if not rows:
        raise TableError("no row below the header", file=table.file)
    flags += [Flag(row, message) for row, message in doubts(rows)]
    used = tuple(name for name in table.columns if name in KNOWN or name in names)
    return Manifest(tuple(rows), tuple(flags), used, tuple(unused))


def _read_row(
    reader: RowReader,
    root: Path,
    her2: bool | None,
    ki67: float | None,
    further: Sequence[Label],
    faults: list[TableError],
) -> CaseRow | None:
    """The row, or None and a fault for each cell that cannot be read."""
    age, tesla = (0.0, _LONGEST_AGE), (0.01, _STRONGEST_FIELD_T)
    cells: dict[str, Callable[[], object]] = {
        "patient_id": lambda: reader.identifier("patient_id"),
        "side": lambda: reader.word_required("side", SIDE, hint="one row a breast: left or right"),
        "modality": lambda: reader.word("modality", MODALITY) or "MR",
        **{column: partial(reader.path, column, root) for column in PATH_COLUMNS},
        "acquisition_times_s": lambda: reader.times("acquisition_times"),
        **{column: partial(reader.word, column, words) for column, words in _WORDS.items()},
        "age": lambda: reader.number("age", *age, unit="years"),
        "field_strength_t": lambda: reader.number("field_strength_t", *tesla, unit="tesla"),
    }
    vendor, before = reader.text("manufacturer"), len(faults)
    values: dict[str, object] = {"row": reader.row, "exam": reader.text("exam"), "her2": her2, "ki67_percent": ki67}
    values["manufacturer"] = normalise_manufacturer(vendor) if vendor else None
    values["extra"] = {name: cell for name, cell in reader.cells.items() if name not in KNOWN}
    other: dict[str, float] = {}
    for name, read in cells.items():
        with noting(faults):
            values[name] = read()
    for label in further:
        with noting(faults):
            if (value := _read_label(reader, label)) is not None:
                other[label.name] = value
    return CaseRow.model_validate({**values, "other": other}) if len(faults) == before else None


_WORDS: dict[str, dict[str, Any]] = {
    "er": RECEPTOR,
    "pr": RECEPTOR,
    "subtype": SUBTYPE,
    "malignant": MALIGNANT,
    "density": DENSITY,
    "split": SPLIT,
}


def _read_label(reader: RowReader, label: Label) -> float | None:
    if label.kind == "number":
        return reader.number(label.name, -math.inf, math.inf, unit=label.title)
    status = reader.word(label.name, RECEPTOR)
    return None if status is None else float(status)
