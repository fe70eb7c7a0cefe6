"""Per-case tables as files: one row for each case, arm and model, sorted, refused where they cannot be."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from server.run_folder.predictions import (
    WHO,
    case_table,
    check_table,
    predictions_path,
    read_predictions,
    write_predictions,
)
from shared.errors import RunError
from shared.evaluation import table_row

TASK = "receptor-status"


def rows(arm="federated", model="abc"):
    return [
        table_row(
            SimpleNamespace(key=f"d-p{number}-e-L"), "d", arm, model,
            {"truth_er": float(number % 2), "score_er": None if number == 2 else number / 4, "threshold_er": None},
        )
        for number in range(4)
    ]  # fmt: skip


def test_a_table_is_sorted_whatever_the_order_of_evaluation():
    both = [*rows(), *rows("local:a", "def")]
    pd.testing.assert_frame_equal(case_table(both[::-1]), case_table(both))
    table = case_table(both)
    assert list(table.columns) == [*WHO, "truth_er", "score_er", "threshold_er"]
    assert table["case"].tolist() == [f"d-p{number}-e-L" for number in range(4)] * 2
    assert table["patient"].tolist()[0] == "d-p0"


def test_a_missing_figure_is_an_empty_cell_of_a_column_of_numbers():
    table = case_table(rows())
    assert table.dtypes[["score_er", "threshold_er"]].tolist() == ["float64", "float64"]
    assert table["score_er"].isna().tolist() == [False, False, True, False]
    assert math.isnan(table["threshold_er"][0])


def test_rows_with_other_columns_leave_cells_empty():
    table = case_table(
        [*rows(), table_row(SimpleNamespace(key="d-p9-e-R"), "d", "federated:branch", "abc", {"x": 1.0})]
    )
    assert table["x"].isna().sum() == 4
    assert table.set_index("case")["score_er"].isna()["d-p9-e-R"]


def test_a_table_reads_back_as_it_was_and_so_does_an_empty_one(tmp_path):
    for table in (case_table(rows()), case_table([])):
        write_predictions(tmp_path, TASK, table)
        pd.testing.assert_frame_equal(read_predictions(tmp_path, TASK), table, check_dtype=len(table) > 0)
    assert (tmp_path / predictions_path(TASK)).is_file()
    assert not list((tmp_path / "predictions").glob(".*"))


def test_a_file_that_cannot_be_read_names_itself(tmp_path):
    with pytest.raises(RunError, match=r"receptor-status\.parquet cannot be read: was the external centre evaluated"):
        read_predictions(tmp_path, TASK)
    (tmp_path / "predictions").mkdir()
    (tmp_path / predictions_path(TASK)).write_bytes(b"not parquet")
    with pytest.raises(RunError, match=r"receptor-status\.parquet cannot be read"):
        read_predictions(tmp_path, TASK)


def test_a_table_of_before_is_refused(tmp_path):
    """Until November 2026 a classifier's table had a row for each label."""
    old = pd.DataFrame({"case": ["c", "c"], "patient": "p", "centre": "d", "arm": "federated", "model_hash": "h",
                        "label": ["er", "pr"], "truth": 1.0, "score": 0.5})  # fmt: skip
    write_predictions(tmp_path, TASK, old)
    with pytest.raises(RunError, match="one model's answer for one case twice"):
        read_predictions(tmp_path, TASK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="arm"), "lacks arm"),
        (lambda table: table.assign(centre=[None, "d", "d", "d"]), "empty cell in case"),
        (lambda table: table.assign(score_er=math.inf), "not finite"),
        (lambda table: pd.concat([table, table]), "twice"),
        (lambda table: pd.concat([table, table.assign(arm="b", truth_er=1 - table["truth_er"])]), "'truth_er'"),
        (lambda table: pd.concat([table, table.assign(arm="b", patient="p")]), "'patient' for one case"),
        (lambda table: table.assign(patient="p", centre=["d", "d", "d", "e"]), "'centre' for one patient"),
    ],
)
def test_what_is_no_such_table_is_refused_without_naming_a_case(change, words):
    check_table(case_table(rows()))
    with pytest.raises(RunError, match=words) as caught:
        check_table(change(case_table(rows())))
    assert "d-p" not in str(caught.value)
