"""Read a CSV file that a spreadsheet exported, and check its encoding, delimiter and shape.

The encoding is UTF-8 with or without a byte order mark, UTF-16 with one, else Windows-1252. The delimiter is the comma,
semicolon or tab that yields the most known columns in the header. A row with too many or too few fields is refused,
because its values could be in the wrong columns.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import TableError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MAX_BYTES = 16 * 2**20
_MAX_COLUMNS = 1000


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as `(row number, {column: text})`; the header is row 1, and blank rows are left out but counted."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    delimiter: str


def read_table(path: Path, *, known: Collection[str], required: Sequence[str]) -> Table:
    """Read a CSV file whose header has at least the `required` columns; a `TableError` never shows a cell."""
    text = _decode(_read(path), path.name)
    header, delimiter = _header(text, path.name, known)
    columns = _columns(header, path.name, known, required)
    rows = []
    for number, record in _records(text, path.name, delimiter):
        if number == 1:
            continue
        if not any(cell.strip() for cell in record):
            continue
        if len(record) != len(columns):
            raise TableError(
                f"{len(record)} fields where the header names {len(columns)}; look for a missing or extra "
                f"{DELIMITERS[delimiter]} or an unquoted one inside a field",
                file=path.name,
                row=number,
            )
        cells = [unicodedata.normalize("NFC", cell).strip() for cell in record]
        for place, (name, cell) in enumerate(zip(columns, cells, strict=True), start=1):
            if cell and not name:
                message = f"field {place} has a value but the header gives it no name"
                raise TableError(message, file=path.name, row=number)
        rows.append((number, {name: cell for name, cell in zip(columns, cells, strict=True) if name}))
    return Table(path.name, tuple(name for name in columns if name), tuple(rows), delimiter)


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
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
        break
    raise TableError("not a text table in UTF-8, UTF-16 or Windows-1252; save it as CSV UTF-8", file=file)


def _header(text: str, file: str, known: Collection[str]) -> tuple[list[str], str]:
    """The first record, and the delimiter with which it has the most known columns."""
    best: tuple[tuple[int, int], str, list[str]] | None = None
    for delimiter in DELIMITERS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error:
            header = []
        score = (sum(_canonical(name) in known for name in header[:_MAX_COLUMNS]), len(header))
        if best is None or score > best[0]:
            best = score, delimiter, header
    assert best is not None  # noqa: S101 - there are delimiters
    _, delimiter, header = best
    if not header:
        next(_records(text, file, delimiter), None)  # raises where the quotes are damaged
        raise TableError("the table is empty; its first row must name the columns", file=file)
    if len(header) > _MAX_COLUMNS:
        message = f"{len(header)} columns, and {_MAX_COLUMNS} are the most; take out those that are not needed"
        raise TableError(message, file=file)
    return header, delimiter


def _records(text: str, file: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records by their number, one after the other: a row is checked before the next is taken apart."""
    number = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, record in enumerate(reader, start=1):
            yield number, record
    except csv.Error:
        # The message of the csv module may contain data.
        raise TableError("damaged quotes or a field without end", file=file, row=number + 1) from None


def _canonical(name: str) -> str:
    """Name of a column in lower case with underscores: `Patient ID` becomes `patient_id`."""
    return "_".join(name.strip().strip("\ufeff").casefold().replace("-", " ").replace("_", " ").split())


def _columns(header: Sequence[str], file: str, known: Collection[str], required: Sequence[str]) -> list[str]:
    """Names of the columns; a message shows none that is not `known`: without a header they would be a row's cells."""
    columns = [_canonical(cell) for cell in header]
    seen: set[str] = set()
    for place, name in enumerate(columns, start=1):
        if name and name in seen:
            shown = name if name in known else None
            message = f"named twice in the header, again in field {place}; keep one"
            raise TableError(message, file=file, row=1, column=shown, cell=name)
        seen.add(name)
    for name in required:
        if name not in seen:
            near = difflib.get_close_matches(name, sorted(seen - {""}), n=1, cutoff=0.5)
            hint = f"is it field {columns.index(near[0]) + 1}?" if near else f"{len(columns)} other columns were found"
            raise TableError(f"required but missing; {hint}", file=file, row=1, column=name)
    return columns
