"""Tables of a study on disk."""

import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from server.run_folder.study_tables import (
    COMPARISONS,
    META,
    RESULTS,
    SUBGROUPS,
    SUMMARY,
    StudyTables,
    read_tables,
    typed,
)
from server.run_folder.study_tables import write_tables as write
from shared.errors import RunError

AWKWARD = [0.1 + 0.2, math.nan, -0.0, 5e-324, 1 / 3, 1.7976931348623157e308, 123456789.123456789, 1e-17]
TEXTS = ["", "NA", "3.0", "nan", "None", "a,b", 'quo"te', "federated-local:a"]


def tables(number=8):
    def filled(columns):
        kinds = {"s": TEXTS, "f": AWKWARD, "i": [*range(8)], "b": [True, False] * 4}
        return typed([{name: kinds[kind][i] for name, kind in columns.items()} for i in range(number)], columns)

    return StudyTables(*(filled(columns) for columns in (RESULTS, SUMMARY, COMPARISONS, META, SUBGROUPS)))


def same(found, wanted):
    for item in fields(StudyTables):
        pd.testing.assert_frame_equal(getattr(found, item.name), getattr(wanted, item.name), check_exact=True)


def test_tables_read_back_to_the_same_bits_and_kinds(tmp_path):
    write(tmp_path, tables())
    found = read_tables(tmp_path)
    same(found, tables())
    kept = found.results["value"].to_numpy()
    assert kept.tobytes() == np.array(AWKWARD).tobytes()
    assert found.subgroups["level"].tolist() == TEXTS


def test_tables_without_a_row_keep_their_columns_and_kinds(tmp_path):
    write(tmp_path, tables(0))
    same(read_tables(tmp_path), tables(0))


def test_the_files_are_those_of_the_contract_and_leave_no_draft(tmp_path):
    write(tmp_path, tables())
    names = {"results.csv", "summary.csv", "comparisons.csv", "meta_analysis.csv", "subgroups.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "meta_analysis.csv").read_text().splitlines()[0] == ",".join(META)
    assert "nan," not in (tmp_path / "meta_analysis.csv").read_text().splitlines()[2]


def test_a_missing_or_foreign_file_is_refused_by_name(tmp_path):
    write(tmp_path, tables())
    (tmp_path / "summary.csv").write_text("task,value\nx,1\n")
    with pytest.raises(RunError, match=r"summary\.csv has other columns"):
        read_tables(tmp_path)
    (tmp_path / "summary.csv").unlink()
    with pytest.raises(RunError, match=r"summary\.csv cannot be read"):
        read_tables(tmp_path)
