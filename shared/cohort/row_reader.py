"""Convert the cells of one row to values, and read the two columns whose meaning depends on all of their cells.

A message never shows a cell: in a row that is shifted by one, any column may hold a name.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from shared.cohort.labels import her2_status
from shared.cohort.table import Table
from shared.cohort.vocabulary import FISH, RECEPTOR, Value, is_missing, look_up, parse_number
from shared.errors import TableError

_MAX_TIMES = 64
_SCORES = {"0": "0", "1+": "1+", "2+": "2+", "3+": "3+", "0+": "0", "equivocal": "2+", "borderline": "2+"}
_BARE = {"0": "0", "1": "1+", "2": "2+", "3": "3+"}
_FULL = 100.0


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
        if re.fullmatch(r"\d[.,]\d+E\+\d+", cell, re.IGNORECASE) or "\ufffd" in cell or set(cell) == {"#"}:
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
            remedy = hint or (f"did you mean '{near[0]}'?" if near else known)
            raise self.fault(column, f"this value is not understood; {remedy}") from None

    def number(self, column: str, low: float, high: float, *, unit: str) -> float | None:
        """Number from `low` to `high`, or None if missing."""
        cell = self.text(column)
        if not cell:
            return None
        try:
            value = parse_number(cell, decimal_comma=self.decimal_comma)
        except ValueError:
            raise self.fault(column, f"not a number ({unit})") from None
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
        if not 1 < len(values) <= _MAX_TIMES or sorted(set(values)) != list(values):
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
        # `#2` at the end of a mask names a segment of a SEG and is not part of the path.
        bare = cell if column == "path" else re.sub(r"#\d+$", "", cell)
        try:
            inside = (root / bare).resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # a name that is too long, or links in a circle
            inside = False
        if not inside or ".." in Path(bare).parts:
            raise self.fault(column, f"leads out of the folder of images; {remedy}")
        return cell

    def fault(self, column: str, message: str) -> TableError:
        """Error with this row and column."""
        return TableError(message, file=self.file, row=self.row, column=column, cell=self.cells.get(column, ""))


def read_her2_column(table: Table) -> dict[int, tuple[bool | None, bool]]:
    """HER2 of each row from `her2` and `her2_fish`, and whether the two contradict each other.

    `her2` holds scores of immunohistochemistry or a status. Plain digits are scores if the column contains a 2 or 3,
    and a status (1 is positive) if it contains only 0 and 1. A plain 1 beside `1+`, `2+` or `3+` is ambiguous and
    refused.
    """
    cells = {number: row.get("her2", "").replace(" ", "").casefold() for number, row in table.rows}
    bare_scores = bool({"2", "3"} & set(cells.values()))
    plus_scores = bool({"1+", "2+", "3+"} & set(cells.values()))
    statuses: dict[int, tuple[bool | None, bool]] = {}
    for number, row in table.rows:
        reader = RowReader(table.file, number, row, decimal_comma=False)
        cell, fish = cells[number], reader.word("her2_fish", FISH)
        score = _SCORES.get(cell) or (_BARE.get(cell) if bare_scores else None)
        if cell == "1" and plus_scores and not bare_scores:
            raise reader.fault("her2", "1 beside scores such as 2+ could mean 1+ or positive; write which one")
        if score is None and (status := reader.word("her2", RECEPTOR)) is not None:
            score = "3+" if status else "0"  # a status is as clear as these
        statuses[number] = her2_status(score, fish)
    return statuses


def read_ki67_column(table: Table) -> dict[int, float | None]:
    """Ki-67 of each row in percent; a cell can also state the unit, as in `20%`.

    A column with fractions (0.2) beside percentages (20), or only fractions, is refused: the unit is never guessed.

    Raises
    ------
    TableError
        The column has fractions (0.2) beside percentages (20), or only fractions: the unit is never guessed.

    """
    column, comma = "ki67_percent", table.delimiter != ","
    values: dict[int, float | None] = {}
    fractions: list[int] = []
    percents: list[int] = []
    for number, row in table.rows:
        cell = row.get(column, "")
        reader = RowReader(table.file, number, {column: cell.rstrip("% ")}, decimal_comma=comma)
        value = reader.number(column, 0.0, _FULL, unit="percent")
        values[number] = value
        if value is not None and not cell.endswith("%"):
            if 0.0 < value < 1.0:
                fractions.append(number)
            elif value > 1.0:
                percents.append(number)
    if fractions:
        fault = "holds fractions; multiply the column by 100: it is in percent"
        if percents:
            fault = (
                f"a fraction, while row {percents[0]} is a percentage ({len(fractions)} fractions, {len(percents)} "
                "percentages): multiply the fractions by 100, or write a true share below one percent as '0.5%'"
            )
        raise TableError(fault, file=table.file, row=fractions[0], column=column)
    return values
