"""Convert the cells of one row to values, and read the two columns whose meaning depends on all of their cells.

A message never shows a cell: in a row that is shifted by one, any column may hold a name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from shared.cohort.labels import her2_status
from shared.cohort.table import Table
from shared.cohort.vocabulary import FISH, RECEPTOR, Value, is_missing, look_up, parse_number
from shared.dicom.label_map import split_choice
from shared.errors import TableError

_MAX_TIMES = 64
_SCORES = {
    "0": "0",
    "0+": "0",
    "1+": "1+",
    "2+": "2+",
    "3+": "3+",
    "++": "2+",
    "+++": "3+",
    "equivocal": "2+",
    "borderline": "2+",
    "indeterminate": "2+",
    "equivoque": "2+",
}
_PLUS = frozenset({"1+", "2+", "3+", "++", "+++"})
_DAMAGED = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
_FULL = 100.0
_LONGEST_NAME, _LONGEST_PATH = 255, 2048


@contextmanager
def noting(faults: list[TableError]) -> Iterator[None]:
    """Add the fault of a cell to the others instead of stopping: all of a table are told at once."""
    try:
        yield
    except TableError as error:
        faults.append(error)


@dataclass(frozen=True, slots=True)
class RowReader:
    """Cells of one row; every method raises `TableError` with row and column."""

    file: str
    row: int
    cells: dict[str, str]
    decimal_comma: bool

    def text(self, column: str) -> str:
        """Text of a cell; empty if the column is absent or the value missing."""
        cell = self.cells.get(column, "")
        return "" if is_missing(cell) else cell

    def identifier(self, column: str) -> str:
        """Text that must be present and must not have lost digits in a spreadsheet."""
        cell = self.text(column)
        if not cell:
            raise self.fault(column, "blank; every row needs one")
        if _DAMAGED.fullmatch(cell) or "\ufffd" in cell or set(cell) == {"#"}:
            raise self.fault(column, "damaged by a spreadsheet (digits or letters lost); format the column as text")
        return cell

    def word(self, column: str, words: dict[str, Value]) -> Value | None:
        """Value of a word in the column's vocabulary, or None if missing."""
        return self.word_required(column, words) if self.text(column) else None

    def word_required(self, column: str, words: dict[str, Value], *, hint: str = "") -> Value:
        """As `word`, but a missing value is refused."""
        cell = self.text(column)
        if not cell:
            raise self.fault(column, f"blank; {hint}")
        try:
            return look_up(cell, words)
        except KeyError:
            near = difflib.get_close_matches(cell.casefold(), list(words), n=1)
            first: dict[Value, str] = {}
            for word, value in words.items():
                first.setdefault(value, word)
            known = f"write {', '.join(first.values())}, or leave it blank when it is not known"
            remedy = hint or (f"did you mean '{near[0]}'?" if near and not _number_in(cell) else known)
            if not hint and _number_in(cell):
                remedy = f"a code, score or percentage could mean anything here: {known}"
            raise self.fault(column, f"this value is not understood; {remedy}") from None

    def number(self, column: str, low: float, high: float, *, unit: str) -> float | None:
        """Number from `low` to `high`, or None if missing."""
        cell = self.text(column)
        if not cell:
            return None
        try:
            value = parse_number(cell, decimal_comma=self.decimal_comma)
        except ValueError:
            comma = ", with a decimal point" if not self.decimal_comma and "," in cell else ""
            raise self.fault(column, f"not a number ({unit}); write one number alone{comma}") from None
        if not low <= value <= high:
            raise self.fault(column, f"outside {low:g} to {high:g} {unit}; look at the unit")
        return value

    def times(self, column: str) -> tuple[float, ...] | None:
        """List of times in seconds, such as `[0, 90, 180]`."""
        cell = self.text(column)
        if not cell:
            return None
        try:
            values = tuple(float(part) for part in re.split(r"[,;\s]+", cell.strip("[]() ")) if part)
        except ValueError:
            raise self.fault(column, "not a list of numbers, s") from None
        rising = all(map(math.isfinite, values)) and sorted(set(values)) == list(values)
        if not rising or not 1 < len(values) <= _MAX_TIMES:
            raise self.fault(column, "needs one number a phase in rising order, s")
        return values

    def path(self, column: str, root: Path) -> str:
        """Path relative to the folder of images; a path that leads out of it is refused."""
        cell = self.text(column).replace("\\", "/")
        if not cell:
            return ""
        remedy = "paths are relative to the folder of images and stay inside it"
        if "\0" in cell or PureWindowsPath(cell).drive:
            raise self.fault(column, f"leads out of the folder of images; {remedy}")
        # `#2` at the end of a mask names a label of it and is not part of the path.
        bare = cell if column == "path" else split_choice(cell)[0]
        if len(cell.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in Path(bare).parts):
            raise self.fault(column, "longer than any path; look for a missing delimiter or quote")
        try:
            inside = (root / bare).resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # a name that is too long, or links in a circle
            inside = False
        if not inside or ".." in Path(bare).parts:
            raise self.fault(column, f"leads out of the folder of images; {remedy}")
        if column != "path" and re.search(r"#[^/.]*$", bare) and not (root / bare).exists():
            raise self.fault(column, "behind # stand the numbers of labels, as #2 or #1,2, or #all")
        return cell

    def fault(self, column: str, message: str) -> TableError:
        """Error with this row and column."""
        return TableError(message, file=self.file, row=self.row, column=column, cell=self.cells.get(column, ""))


def read_her2_column(table: Table, faults: list[TableError]) -> dict[int, tuple[bool | None, bool]]:
    """HER2 of each row from `her2` and `her2_fish`, and whether the two contradict each other.

    `her2` holds scores of immunohistochemistry, with their plus sign, or a status. Plain digits are a status where they
    are 0 and 1 alone. A 2 or 3 could be a score or the code of a registry or data set (1 positive, 2 negative; or 2
    borderline), so it is refused, and every 1 with it; so is 1 or `+` beside `1+`, `2+` or `3+`.
    """
    cells = {
        number: re.sub(r"\.0+$", "", row.get("her2", "").replace(" ", "").casefold()) for number, row in table.rows
    }
    codes = any(_number_in(cell) and cell not in {"0", "1"} and cell not in _SCORES for cell in cells.values())
    scores = bool(_PLUS & set(cells.values()))
    statuses: dict[int, tuple[bool | None, bool]] = {}
    for number, row in table.rows:
        reader = RowReader(table.file, number, row, decimal_comma=False)
        with noting(faults):
            cell, fish = cells[number], reader.word("her2_fish", FISH)
            score = _SCORES.get(cell)
            if score is None and not is_missing(cell) and _number_in(cell) and (codes or scores):
                raise reader.fault(
                    "her2",
                    "a number without a plus could mean a score or a code; write 0, 1+, 2+, 3+ for scores, or "
                    "positive, negative, and equivocal for a status",
                )
            if cell == "+" and scores:
                raise reader.fault("her2", "+ beside scores such as 2+ could mean 1+ or positive; write which one")
            if score is None and (status := reader.word("her2", RECEPTOR)) is not None:
                score = "3+" if status else "0"  # a status is as clear as these
            statuses[number] = her2_status(score, fish)
    return statuses


def refuse_codes(table: Table, columns: Sequence[str], faults: list[TableError]) -> None:
    """Note each 1 of a column of yes and no that holds other codes, too: beside a 2 it may be either of them."""
    for column in columns:
        cells = {number: re.sub(r"\.0+$", "", row.get(column, "")) for number, row in table.rows}
        if any(_number_in(cell) and cell not in {"0", "1"} for cell in cells.values()):
            for number, cell in cells.items():
                if cell == "1":
                    message = "1 beside other numbers could be a code, score or percentage; write positive or negative"
                    faults.append(TableError(message, file=table.file, row=number, column=column, cell=cell))


def _number_in(cell: str) -> bool:
    """Whether a cell is a number, with a percent sign or as `7/8` too, and not a word."""
    return bool(re.fullmatch(r"[<>~]?\s*[-\d]\d*([.,/]\d+)?\s*%?", cell)) and cell != "-"


def read_ki67_column(table: Table, faults: list[TableError]) -> dict[int, float | None]:
    """Ki-67 of each row in percent; a cell can also state the unit, as in `20%`.

    The unit is never guessed: a column with fractions (0.2) beside percentages (20), only fractions, or no numbers but
    0 and 1, which could be a status, adds a fault at each of these rows.
    """
    column, comma = "ki67_percent", table.delimiter != ","
    values: dict[int, float | None] = {}
    bare: dict[int, float] = {}
    for number, row in table.rows:
        cell = row.get(column, "")
        reader = RowReader(table.file, number, {column: cell.rstrip("% \xa0")}, decimal_comma=comma)
        with noting(faults):
            values[number] = reader.number(column, 0.0, _FULL, unit="percent")
            if values[number] is not None and not cell.endswith("%"):
                bare[number] = values[number] or 0.0
    fractions = [number for number, value in bare.items() if 0.0 < value < 1.0]
    percents = [number for number, value in bare.items() if value > 1.0]
    doubtful, fault = fractions, "holds fractions; multiply the column by 100: it is in percent"
    if fractions and percents:
        fault = (
            f"a fraction, while row {percents[0]} is a percentage ({len(fractions)} fractions, {len(percents)} "
            "percentages): multiply the fractions by 100, or write a true share below one percent as '0.5%'"
        )
    elif not percents and not fractions and 1.0 in bare.values():
        doubtful, fault = [number for number, value in bare.items() if value], _STATUS
    faults += [TableError(fault, file=table.file, row=number, column=column) for number in doubtful]
    return values


_STATUS = "the column holds 0 and 1 alone, which could be a status or fractions; it is in percent: write 1 as '1%'"
