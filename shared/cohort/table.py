"""Read a CSV file that a spreadsheet exported, and check its encoding, delimiter and shape.

The encoding is UTF-8 or UTF-16, each with or without a byte order mark, else Windows-1252. The delimiter is the comma,
semicolon or tab that yields the most known columns in the header. A row with too many or too few fields is refused,
because its values could be in the wrong columns. All faulty rows are told at once.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.cohort.vocabulary import SYNONYMS
from shared.errors import TableError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MAX_BYTES = 16 * 2**20
_MAX_COLUMNS = 1000
MOST_FAULTS = 1000
"""Then the rest of a table is not looked at."""
_HINT = re.compile(r'\A"?sep=.?"?\r?\n', re.IGNORECASE)
"""A first line for Excel, which does not show it."""
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""Characters without a width, which a copy from a page or a PDF leaves in cells."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as `(row number, {column: text})`; the header is row 1, and blank rows are left out but counted."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    delimiter: str


def read_table(
    path: Path, *, known: Collection[str], required: Sequence[str], faults: list[TableError] | None = None
) -> Table:
    """Read a CSV file whose header has at least the `required` columns; a `TableError` never shows a cell.

    Faulty rows are left out and added to `faults`, where it is given; else they raise an error.
    """
    text = _decode(_read(path), path.name)
    header, delimiter, first = _header(text, path.name, known)
    columns = _columns(header, path.name, known, required)
    rows = []
    own: list[TableError] = []
    for number, record in _records(text, path.name, delimiter, own):
        if number <= first or not any(cell.strip() for cell in record):
            continue
        if len(record) != len(columns):
            message = (
                f"{len(record)} fields where the header names {len(columns)}; look for a missing or extra "
                f"{DELIMITERS[delimiter]} or an unquoted one inside a field"
            )
            own.append(TableError(message, file=path.name, row=number))
        else:
            cells = [unicodedata.normalize("NFC", cell.translate(_UNSEEN)).strip() for cell in record]
            if place := next((at for at, name in enumerate(columns, start=1) if cells[at - 1] and not name), 0):
                message = f"field {place} has a value but the header gives it no name"
                own.append(TableError(message, file=path.name, row=number))
            rows.append((number, {name: cell for name, cell in zip(columns, cells, strict=True) if name}))
        if len(own) >= MOST_FAULTS:
            break
    if faults is None:
        refuse(own)
    else:
        faults += own
    return Table(path.name, tuple(name for name in columns if name), tuple(rows), delimiter)


def refuse(faults: Sequence[TableError]) -> None:
    """Raise the faults of a table as one error, if there are any: rows of one fault in one line."""
    if not faults:
        return
    ordered = sorted(faults, key=lambda fault: fault.row or 0)
    first = ordered[0]
    if len(ordered) == 1:  # a new one: raised, `first` would hold the frames that hold the table, and they hold it
        raise TableError(first.message, file=first.file, row=first.row, column=first.column, cell=first.cell)
    alike: dict[tuple[str | None, str], list[int]] = {}
    for fault in ordered:
        alike.setdefault((fault.column, fault.message), []).append(fault.row or 1)
    lines = [
        "\n  " + (f"column '{column}', " if column else "") + f"{_named(rows)}: {message}"
        for (column, message), rows in alike.items()
    ]
    raise TableError(
        "".join(lines), file=first.file, row=first.row, column=first.column, cell=first.cell, faults=ordered
    )


def _named(rows: Sequence[int]) -> str:
    """`row 3`, or `rows 3, 5-9`."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row <= runs[-1][-1] + 1:
            runs[-1][-1] = row
        else:
            runs.append([row, row])
    text = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    return f"row{'s' * (len(rows) > 1)} {text}"


def _read(path: Path) -> bytes:
    if not path.is_file() and path.exists():
        raise TableError("no file but a folder, pipe or device", file=path.name)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TableError(f"larger than {_MAX_BYTES >> 20} MB, which no case table is", file=path.name)
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", file=path.name) from None


def _decode(data: bytes, file: str) -> str:
    if data.startswith(b"PK\x03\x04"):
        raise TableError("a spreadsheet file (.xlsx) under another name; save it as CSV UTF-8", file=file)
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Every second byte of a header's letters is 0 in UTF-16, in other encodings none is.
    plain = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be" if data[:1] == b"\0" else ""
    for encoding in ("utf-16",) if marked else (plain,) if plain else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return _HINT.sub("", text)
        break
    raise TableError("not a text table in UTF-8, UTF-16 or Windows-1252; save it as CSV UTF-8", file=file)


def _header(text: str, file: str, known: Collection[str]) -> tuple[list[str], str, int]:
    """The first record that is not blank, the delimiter with which it has the most known columns, and its number."""
    best: tuple[tuple[int, int], str, list[str], int] | None = None
    for delimiter in DELIMITERS:
        header: list[str] = []
        number = 0
        try:
            for number, header in enumerate(_reader(text, delimiter), start=1):  # noqa: B007 - both are used below
                if any(cell.strip() for cell in header):
                    break
        except csv.Error:
            header = []
        score = (sum(_canonical(name) in known for name in header[:_MAX_COLUMNS]), len(header))
        if best is None or score > best[0]:
            best = score, delimiter, header, number
    assert best is not None  # noqa: S101 - there are delimiters
    _, delimiter, header, number = best
    if not any(cell.strip() for cell in header):
        faults: list[TableError] = []
        next(_records(text, file, delimiter, faults), None)
        refuse(faults)  # damaged quotes
        raise TableError("the table is empty; its first row must name the columns", file=file)
    if len(header) > _MAX_COLUMNS:
        message = f"{len(header)} columns, and {_MAX_COLUMNS} are the most; take out those that are not needed"
        raise TableError(message, file=file)
    return header, delimiter, number


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _records(text: str, file: str, delimiter: str, faults: list[TableError]) -> Iterator[tuple[int, list[str]]]:
    """Records by their number, one after the other: a row is checked before the next is taken apart."""
    number = 0
    try:
        for number, record in enumerate(_reader(text, delimiter), start=1):
            yield number, record
    except csv.Error:
        # The message of the csv module may contain data.
        faults.append(TableError("damaged quotes or a field without end", file=file, row=number + 1))


def _canonical(name: str) -> str:
    """Name of a column in lower case with underscores: `Patient ID` becomes `patient_id`."""
    return "_".join(name.translate(_UNSEEN).casefold().replace("-", " ").replace("_", " ").split())


def _columns(header: Sequence[str], file: str, known: Collection[str], required: Sequence[str]) -> list[str]:
    """Names of the columns; a message shows none that is not `known`: without a header they would be a row's cells."""
    columns = [_canonical(cell) for cell in header]
    seen: set[str] = set()
    faults = []
    for place, name in enumerate(columns, start=1):
        if name and name in seen:
            shown = name if name in known else None
            message = f"named twice in the header, again in field {place}; keep one"
            faults.append(TableError(message, file=file, row=1, column=shown, cell=name))
        seen.add(name)
    for name in required:
        if name not in seen:
            near = [other for other in columns if SYNONYMS.get(other) == name]
            near += difflib.get_close_matches(name, sorted(seen - {""}), n=1, cutoff=0.5)
            hint = f"is it field {columns.index(near[0]) + 1}?" if near else f"{len(columns)} other columns were found"
            faults.append(TableError(f"required but missing; {hint}", file=file, row=1, column=name))
    refuse(faults)
    return columns
