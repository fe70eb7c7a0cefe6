"""CSV as spreadsheets write it: encodings, delimiters, damage. A value never lands in a neighbour's column."""

import csv
import io
import os
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.cohort.table import read_table
from shared.errors import TableError
from tests.memory import peak_mb

KNOWN = ("patient_id", "side", "er", "note")


def read(tmp_path, data, known=KNOWN, required=("patient_id", "side")):
    path = tmp_path / "cases.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path, known=known, required=required)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_scenario_35_encodings_delimiters_and_line_ends(tmp_path, encoding, delimiter, newline):
    lines = [["patient_id", "side", "note"], ["Müller 1", "left", "größer"], ["P2", "right", ""]]
    data = newline.join(delimiter.join(line) for line in lines).encode(encoding)
    table = read(tmp_path, data)
    assert table.columns == ("patient_id", "side", "note")
    assert table.rows == (
        (2, {"patient_id": "Müller 1", "side": "left", "note": "größer"}),
        (3, {"patient_id": "P2", "side": "right", "note": ""}),
    )
    assert table.delimiter == delimiter


def test_scenario_35_a_letter_composed_otherwise_is_the_same_patient(tmp_path):
    table = read(tmp_path, "patient_id,side\nMu\u0308ller,left\nM\u00fcller,right\n")
    assert {cells["patient_id"] for _, cells in table.rows} == {"Müller"}


def test_header_names_whatever_their_case_and_blanks(tmp_path):
    assert read(tmp_path, " Patient ID ,SIDE,E-R\nP1,left,1\n").columns == ("patient_id", "side", "e_r")


def test_a_quoted_delimiter_and_line_end_stay_in_their_cell(tmp_path):
    table = read(tmp_path, 'patient_id,side,note\nP1,left,"a, b\nc"\nP2,right,d\n')
    assert [cells["note"] for _, cells in table.rows] == ["a, b\nc", "d"]


def test_blank_rows_are_skipped_but_counted(tmp_path):
    assert [number for number, _ in read(tmp_path, "patient_id,side\n\nP1,left\n,\n,\nP2,right\n").rows] == [3, 6]


def test_nameless_columns_are_dropped_when_blank(tmp_path):
    assert read(tmp_path, "patient_id,side,,\nP1,left,,\n").columns == ("patient_id", "side")
    with pytest.raises(TableError, match=r"cases\.csv, row 2: field 3 has a value"):
        read(tmp_path, "patient_id,side,\nP1,left,x\n")


@pytest.mark.parametrize(
    ("row", "found"), [("P1,left", 2), ("P1,left,1,extra", 4), ("P1;left;1", 1), ("P1,left,12,5", 4)]
)
def test_scenario_35_a_row_with_too_many_or_too_few_fields_is_refused(tmp_path, row, found):
    with pytest.raises(TableError, match=rf"cases\.csv, row 3: {found} fields where the header names 3") as caught:
        read(tmp_path, f"patient_id,side,er\nP0,left,1\n{row}\n")
    assert caught.value.row == 3


def test_a_required_column_that_is_missing_names_the_nearest(tmp_path):
    with pytest.raises(TableError, match=r"column 'patient_id': required but missing; is it field 1\?"):
        read(tmp_path, "PatientID,side\nP1,left\n")


def test_a_column_named_twice_is_refused(tmp_path):
    with pytest.raises(TableError, match="row 1, column 'er': named twice"):
        read(tmp_path, "patient_id,side,er,ER\nP1,left,1,0\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 a spreadsheet",
        b"\x00\x01\x02\x03",
        b"patient_id,side\nP\x81,left\n",
        b'patient_id,side\n"P1,left\n',
        b'patient_id,side\n"P1"x,left\n',
        b"patient_id,side\n" + b"x" * 200_000 + b",left\n",
    ],
    ids=["empty", "xlsx", "binary", "unmapped byte", "open quote", "text after a quote", "endless field"],
)
def test_what_is_no_table_is_refused(tmp_path, data):
    with pytest.raises(TableError, match=r"cases\.csv"):
        read(tmp_path, data)


def test_more_columns_than_any_table_has_are_refused_at_once(tmp_path):
    names = [*KNOWN[:2], *(f"x{number}" for number in range(998))]
    assert len(read(tmp_path, ",".join(names).encode() + b"\n" + b"1," * 999 + b"1\n").columns) == 1000
    started = time.monotonic()
    for count in (999, 200_000, 4_000_000):
        data = ("patient_id,side" + ",x" * count)[: 15 << 20]
        with pytest.raises(TableError, match="1000 are the most; take out"):
            read(tmp_path, data.encode())
    assert time.monotonic() - started < 10


def test_a_row_of_a_million_fields_and_a_long_table_take_little_memory(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"patient_id,side\n" + b"ab," * 5_000_000)
    (tmp_path / "b.csv").write_bytes(bytes(17 << 20))
    (tmp_path / "c.csv").write_bytes(b"patient_id,side" + b",ab" * 5_000_000)
    setup = """
        from pathlib import Path
        from shared.cohort.table import read_table
        from shared.errors import TableError
    """
    code = """
        for path in Path(sys.argv[1]).iterdir():
            try:
                read_table(path, known=("patient_id", "side"), required=())
            except TableError:
                continue
            raise SystemExit("not refused")
    """
    assert peak_mb(setup, code, tmp_path) < 600


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "cases.csv")
    with pytest.raises(TableError, match="no file but a folder, pipe or device"):
        read_table(tmp_path / "cases.csv", known=KNOWN, required=())


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(TableError, match=r"cases\.csv: cannot be read"):
        read_table(tmp_path / "cases.csv", known=KNOWN, required=())


CELL = st.text(string.ascii_letters + string.digits + " ,;'\"\n.äöé+-", max_size=8).map(str.strip)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL).filter(any), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_comes_back_cell_by_cell(tmp_path, rows, delimiter, encoding):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows([("patient_id", "side", "note"), *rows])
    table = read(tmp_path, text.getvalue().encode(encoding))
    assert [tuple(cells.values()) for _, cells in table.rows] == rows


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"patient_id,side\n{text}".encode())))
def test_junk_raises_nothing_but_a_table_error(tmp_path, data):
    try:
        table = read(tmp_path, data)
    except TableError:
        return
    assert all(tuple(cells) == table.columns for _, cells in table.rows)
