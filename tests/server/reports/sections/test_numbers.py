"""Predicted numbers on a page: their table by arm, their figures, and what a case without a prediction costs."""

import numpy as np
import pandas as pd
import pytest

from server.reports.metric_text import fixed
from server.reports.sections.external_data import external_data
from server.reports.sections.numbers import numbers
from server.run_folder.finished_run import read_finished_run
from shared.metrics.agreement import icc
from tests.server.reports.invented_classifiers import END, RECEPTORS, cases, evaluated, external, receptors


def test_each_arm_has_a_column_and_each_metric_of_the_pair_a_line():
    table = pd.concat([receptors(), receptors(END, seed=1)], ignore_index=True)
    rows = external(table, RECEPTORS)
    (part,) = numbers(evaluated(table, rows, RECEPTORS))
    stored = {(row.arm, row.metric): row for row in rows}
    assert [column.title for column in part["table"]["columns"]] == ["Reference outline", "End to end"]
    lines = {line["name"]: line for line in part["table"]["lines"]}
    assert lines["Bias of Ki-67"]["rows"] == [stored[arm, "bias_ki67"] for arm in ("federated", END)]
    assert {"Mean absolute error of Ki-67", "The same, of the mean alone", "ICC(A,1) of Ki-67"} <= set(lines)
    assert part["missing"] == 0


def test_the_caption_has_the_classical_intervals_of_the_cases(run_dir):
    data = external_data(read_finished_run(run_dir)[0])
    (part,) = numbers(data)
    known = icc(data.own_cases[["volume_ml", "reference_volume_ml"]].to_numpy())
    caption = part["figures"][0]["caption"]
    assert f"ICC(A,1) {fixed(known.low, 3)} to {fixed(known.high, 3)} (McGraw and Wong)" in caption
    assert "cases in which one of the two is 0 are absent" in part["figures"][1]["caption"]
    assert [column.title for column in part["table"]["columns"]] == ["Value"]


@pytest.mark.parametrize("missing", [1, 3])
def test_cases_without_a_prediction_are_counted(missing):
    true = np.arange(10.0, 40.0, 3.0)
    predicted = np.where(np.arange(10) < missing, np.nan, true + 1)
    table = cases({"truth_ki67_percent": true, "score_ki67_percent": predicted})
    (part,) = numbers(evaluated(table, external(table, RECEPTORS), RECEPTORS))
    assert part["missing"] == missing
    assert part["table"]["lines"][0]["n"] == 10 - missing
