"""All faulty rows of a table at once, each with its place and without its cell."""

from pathlib import Path

import pytest

from shared.errors import TableError
from shared.site_check.site_report import check_site


def told(site):
    with pytest.raises(TableError) as caught:
        check_site(site.folder, lambda *_: None)
    return caught.value


def test_every_faulty_row_is_told_and_no_cell(damaged):
    def change(rows):
        rows[0]["er"], rows[2]["side"], rows[4]["age"] = "SECRET1", "SECRET2", "SECRET3"

    damaged.table(change)
    error = told(damaged)
    assert [(fault.row, fault.column) for fault in error.faults] == [(2, "er"), (4, "side"), (6, "age")]
    for place in ("column 'er', row 2:", "column 'side', row 4:", "column 'age', row 6:"):
        assert str(error).count(place) == 1
    assert "SECRET" not in str(error)
    path = str(error).partition("what stands there is in ")[2].partition(",")[0]
    cells = Path(path).read_text().splitlines()
    assert cells == ["row 2, column 'er': SECRET1", "row 4, column 'side': SECRET2", "row 6, column 'age': SECRET3"]


def test_one_fault_is_told_as_before(damaged):
    damaged.table(lambda rows: rows[1].update(er="perhaps"))
    assert str(told(damaged)).startswith("cases.csv, row 3, column 'er': this value is not understood")


def test_a_fault_of_the_header_is_the_only_one(damaged):
    table = damaged.folder / "cases.csv"
    table.write_text(table.read_text().replace("patient_id", "who", 1))
    assert told(damaged).row == 1


def test_blank_lines_do_not_move_the_numbers(damaged):
    table = damaged.folder / "cases.csv"
    head, *rows = table.read_text().splitlines()
    rows[1] = rows[1].replace("left", "l?").replace("right", "l?")
    rows[3] = rows[3].replace("left", "l?").replace("right", "l?")
    table.write_text("\n".join([head, rows[0], "", *rows[1:]]) + "\n")
    assert "column 'side', rows 4, 6:" in str(told(damaged))
