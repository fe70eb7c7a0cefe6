"""All faulty rows at once: each with its row and column, no cell in the message."""

from pathlib import Path

import pytest

from shared.errors import TableError
from shared.site_check.site_report import check_site
from shared.site_check.table_faults import all_faults


def told(site):
    with pytest.raises(TableError) as caught:
        check_site(site.folder, lambda *_: None)
    return all_faults(site.folder, caught.value)


def test_every_faulty_row_is_told_and_no_cell(damaged):
    def change(rows):
        rows[0]["er"], rows[2]["side"], rows[4]["age"] = "SECRET1", "SECRET2", "SECRET3"

    damaged.table(change)
    message = str(told(damaged))
    assert "3 rows are at fault" in message
    for place in ("row 2, column 'er'", "row 4, column 'side'", "row 6, column 'age'"):
        assert message.count(place) == 1
    assert "SECRET" not in message
    path = message.partition("what stands there is in ")[2].partition(",")[0]
    cells = Path(path).read_text().splitlines()
    assert cells == ["row 2, column 'er': SECRET1", "row 4, column 'side': SECRET2", "row 6, column 'age': SECRET3"]


def test_one_fault_is_told_as_before(damaged):
    damaged.table(lambda rows: rows[1].update(er="perhaps"))
    message = str(told(damaged))
    assert message.startswith("cases.csv, row 3, column 'er': this value is not understood")
    assert "at fault" not in message


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
    message = str(told(damaged))
    assert "row 4, column 'side'" in message
    assert "row 6, column 'side'" in message
