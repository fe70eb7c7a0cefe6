"""Cells of a spreadsheet by the names of its first row; what is no spreadsheet is refused."""

import zipfile

import pytest

from shared.cohort.importers import spreadsheet
from shared.cohort.importers.spreadsheet import read_sheet
from shared.errors import TableError
from tests.shared.cohort.importers.conftest import write_parts, write_sheet


def test_cells_stand_under_their_column_also_behind_blank_ones(tmp_path):
    write_sheet(tmp_path / "a.xlsx", [["ID", " Age ", "note"], ["A & B", 44, ""], ["", "", ""], ["C", "", "A & B"]])
    assert list(read_sheet(tmp_path / "a.xlsx")) == [
        (2, {"ID": "A & B", "Age": "44", "note": ""}),
        (4, {"ID": "C", "Age": "", "note": "A & B"}),
    ]


def test_texts_in_runs_and_in_the_cell_are_read_and_hints_of_pronunciation_are_not(tmp_path):
    strings = "<si><r><t>lumi</t></r><r><t>nal</t></r><rPh><t>no</t></rPh></si><si><t/></si>"
    sheet = (
        '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>type</t></is></c><c r="AB1" t="str"><v>far</v></c></row>'
        '<row r="7"><c r="A7" t="s"><v>0</v></c><c r="B7" t="s"><v>1</v></c><c r="AB7"><v>0.5</v></c></row></sheetData>'
    )
    write_parts(tmp_path / "a.xlsx", sheet, strings)
    assert list(read_sheet(tmp_path / "a.xlsx")) == [(7, {"type": "luminal", "far": "0.5"})]


@pytest.mark.parametrize(
    "sheet",
    [
        "<sheetData><row",
        '<sheetData><row r="1"><c r="A1" t="s"><v>3</v></c></row></sheetData>',  # there is no such text
        '<sheetData><row r="1"><c r="A1" t="s"><v>x</v></c></row></sheetData>',
        "<sheetData><row/></sheetData>",
    ],
)
def test_a_damaged_sheet_is_refused(tmp_path, sheet):
    write_parts(tmp_path / "a.xlsx", sheet)
    with pytest.raises(TableError, match=r"a\.xlsx.*fetch it again"):
        list(read_sheet(tmp_path / "a.xlsx"))


def test_what_is_no_spreadsheet_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_text("<html>not found</html>")
    with pytest.raises(TableError, match="fetch it again"):
        list(read_sheet(tmp_path / "a.xlsx"))
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    with pytest.raises(TableError, match="fetch it again"):
        list(read_sheet(tmp_path / "b.xlsx"))
    write_parts(tmp_path / "c.xlsx", "<sheetData/>")
    with pytest.raises(TableError, match="the first sheet is empty"):
        list(read_sheet(tmp_path / "c.xlsx"))
    monkeypatch.setattr(spreadsheet, "_MAX_BYTES", 16)
    with pytest.raises(TableError, match="larger than"):
        list(read_sheet(tmp_path / "c.xlsx"))
