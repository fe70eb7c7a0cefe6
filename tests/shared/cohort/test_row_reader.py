"""Cells of one row, without a file."""

import pytest

from shared.cohort import row_reader
from shared.cohort.row_reader import RowReader
from shared.cohort.table import Table, refuse
from shared.cohort.vocabulary import RECEPTOR, SIDE
from shared.errors import TableError


def reader(cell, *, decimal_comma=False):
    return RowReader("cases.csv", 7, {"column": cell}, decimal_comma=decimal_comma)


def table(*rows, delimiter=","):
    columns = tuple(rows[0])
    return Table("cases.csv", columns, tuple(enumerate(rows, start=2)), delimiter)


def read_her2_column(cells):
    faults = []
    statuses = row_reader.read_her2_column(cells, faults)
    refuse(faults)
    return statuses


def read_ki67_column(cells):
    faults = []
    values = row_reader.read_ki67_column(cells, faults)
    refuse(faults)
    return values


def test_a_fault_names_file_row_and_column():
    with pytest.raises(TableError) as fault:
        reader("").identifier("column")
    assert str(fault.value) == "cases.csv, row 7, column 'column': blank; every row needs one"


def test_an_absent_column_and_a_missing_value_are_empty_text():
    assert reader("unknown").text("column") == reader("x").text("other") == ""
    assert reader("A 12").text("column") == "A 12"


@pytest.mark.parametrize("cell", ["1.2E+11", "1,2E+11", "M\ufffdller", "####"])
def test_a_damaged_identifier_is_refused_without_showing_it(cell):
    with pytest.raises(TableError, match="damaged by a spreadsheet") as fault:
        reader(cell).identifier("column")
    assert cell not in str(fault.value)


def test_a_word_that_is_not_understood_is_never_shown():
    assert reader("").word("column", RECEPTOR) is None
    for cell, remedy in (("pozitive", "did you mean 'positive'"), ("Jane Doe", "write pos, neg, or leave it blank")):
        with pytest.raises(TableError, match=f"this value is not understood; {remedy}") as fault:
            reader(cell).word("column", RECEPTOR)
        assert f"'{cell}'" not in str(fault.value)
        assert fault.value.cell == cell
    with pytest.raises(TableError, match="blank; left or right"):
        reader("").word_required("column", SIDE, hint="left or right")


def test_numbers_keep_their_bounds_and_are_never_shown():
    assert reader("12,5", decimal_comma=True).number("column", 0, 20, unit="mm") == 12.5
    assert reader("NA").number("column", 0, 20, unit="mm") is None
    for cell, message in (("25", "outside 0 to 20 mm"), ("abc", "not a number")):
        with pytest.raises(TableError, match=message) as fault:
            reader(cell).number("column", 0, 20, unit="mm")
        assert f" {cell}" not in str(fault.value)


def test_times_are_a_rising_list():
    assert reader("[0, 90; 180.5]").times("column") == (0.0, 90.0, 180.5)
    assert reader("").times("column") is None
    for cell in ("[0, 90, 90]", "[5]", "[90, 0]", "[a, b]", str(list(range(65)))):
        with pytest.raises(TableError, match=r"rising order|not a list"):
            reader(cell).times("column")


def test_a_path_stays_inside_the_folder(tmp_path):
    assert reader("a\\b.nii").path("column", tmp_path) == "a/b.nii"
    assert reader("mask.dcm#2").path("column", tmp_path) == "mask.dcm#2"
    for cell in ("../other", "a/../../b", "/etc/passwd", "C:\\data", "a\0b"):
        with pytest.raises(TableError, match="leads out of the folder") as fault:
            reader(cell).path("column", tmp_path)
        assert cell not in str(fault.value)


def test_plain_digits_of_her2_mean_what_their_column_says():
    status = table({"her2": "0"}, {"her2": "1"}, {"her2": ""})
    assert read_her2_column(status) == {2: (False, False), 3: (True, False), 4: (None, False)}
    for others in (("2", "3"), ("2",), ("2.0",), ("9",), ("1+",), ("++",)):
        with pytest.raises(TableError, match="a score or a code; write 0, 1"):
            read_her2_column(table(*({"her2": cell} for cell in ("1", *others))))
    with pytest.raises(TableError, match=r"\+ beside scores"):
        read_her2_column(table({"her2": "+"}, {"her2": "2+"}))
    scores = table({"her2": "0"}, {"her2": "++"}, {"her2": "3+"}, {"her2": "unknown"})
    assert [status for status, _ in read_her2_column(scores).values()] == [False, None, True, None]


def test_hybridisation_decides_an_equivocal_score_and_contradictions_are_missing():
    rows = (
        {"her2": "2+", "her2_fish": "amplified"},
        {"her2": "3+", "her2_fish": "ish-"},
        {"her2": "pos", "her2_fish": "-"},
    )
    assert read_her2_column(table(*rows)) == {2: (True, False), 3: (None, True), 4: (None, True)}


def test_ki67_is_percent_and_a_unit_is_never_guessed():
    cells = [{"ki67_percent": cell} for cell in ("20%", "0.5%", "14", "", "1")]
    assert read_ki67_column(table(*cells)) == {2: 20.0, 3: 0.5, 4: 14.0, 5: None, 6: 1.0}
    with pytest.raises(TableError, match="row 2, column 'ki67_percent': a fraction, while row 3 is a percentage"):
        read_ki67_column(table({"ki67_percent": "0.2"}, {"ki67_percent": "20"}))
    with pytest.raises(TableError, match="holds fractions"):
        read_ki67_column(table({"ki67_percent": "0.2"}, {"ki67_percent": "0.3"}))
