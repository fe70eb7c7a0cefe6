"""Read the first sheet of an `.xlsx` file: cells as text, by the names in its first row (ECMA-376, part 1, 18.3)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from shared.errors import TableError

_SHEET = "xl/worksheets/sheet1.xml"
_STRINGS = "xl/sharedStrings.xml"
_MAX_BYTES = 64 * 2**20


def read_sheet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows below the first one, as `(row number, {column: text})`; a blank cell is an empty text.

    Numbers are as they are stored, without a format. Raises `TableError` where the file is no such sheet.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sheet = _parse(archive, _SHEET, path.name)
            shared = _parse(archive, _STRINGS, path.name) if _STRINGS in archive.namelist() else ET.Element("none")
        strings = [_text(item) for item in shared.findall("{*}si")]
        rows = [(int(row.attrib["r"]), _cells(row, strings)) for row in sheet.iterfind("{*}sheetData/{*}row")]
    except (OSError, zipfile.BadZipFile, ET.ParseError, LookupError, ValueError):
        raise TableError("no spreadsheet that can be read; fetch it again", file=path.name) from None
    if not rows:
        raise TableError("the first sheet is empty", file=path.name)
    names = {place: name.strip() for place, name in rows[0][1].items()}
    for number, cells in rows[1:]:
        if any(cells.values()):
            yield number, {name: cells.get(place, "").strip() for place, name in names.items()}


def _parse(archive: zipfile.ZipFile, name: str, file: str) -> ET.Element:
    if archive.getinfo(name).file_size > _MAX_BYTES:
        raise TableError(f"larger than {_MAX_BYTES >> 20} MB, which no case table is", file=file)
    return ET.fromstring(archive.read(name))  # noqa: S314 - expat bounds what entities expand to, and we the size


def _cells(row: ET.Element, strings: list[str]) -> dict[str, str]:
    """Text of a row's cells by the letters of their column."""
    cells = {}
    for cell in row.iterfind("{*}c"):
        place = re.sub(r"\d", "", cell.attrib["r"])
        inline, value = cell.find("{*}is"), cell.findtext("{*}v", "")
        if inline is not None:
            cells[place] = _text(inline)
        else:
            cells[place] = strings[int(value)] if value and cell.get("t") == "s" else value
    return cells


def _text(item: ET.Element) -> str:
    """A string's text, which may be in runs of different fonts; hints of pronunciation are none of it."""
    return "".join(part.text or "" for part in (*item.findall("{*}t"), *item.findall("{*}r/{*}t")))
