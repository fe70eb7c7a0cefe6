"""Arms by centres: internal cells on the diagonal alone, thin ones hatched, leaks alarmed."""

import re

import pandas as pd

from server.reports.study import matrix
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION

OUTLINES, RECEPTORS = task_named(SEGMENTATION), task_named(CLASSIFIER)


def test_the_matrix_has_internal_cells_on_the_diagonal_alone_and_hatches_thin_ones(study):
    svg = matrix.matrix(study, RECEPTORS)["svg"]
    italic = re.findall(r"<text[^>]*italic[^>]*>([^<]+)<", svg)
    summary = study.tables.summary.query(f"task == '{CLASSIFIER}' and metric == 'auc_er'")
    own = summary[(summary["role"] == "test") & (summary["arm"] == "local:" + summary["centre"])]
    assert sorted(italic) == sorted(
        "undefined" if pd.isna(value) else f"{value:.3f}" for value in own.sort_values("centre")["value"]
    )
    assert "<pattern" in svg
    assert "<pattern" not in matrix.matrix(study, OUTLINES)["svg"]


def test_an_external_cell_far_above_the_internal_one_raises_an_alarm(study):
    assert matrix.matrix(study, OUTLINES)["alarms"] == []
    table = study.tables.summary
    at = (table["arm"] == "federated") & (table["metric"] == "dice") & (table["role"] == "external")
    before = table.loc[at, "value"].copy()
    inside = table[(table["arm"] == "federated") & (table["metric"] == "dice") & (table["role"] == "test")][
        "value"
    ].max()
    table.loc[at & (table["centre"] == "centre-b"), "value"] = inside + 0.11
    alarms = matrix.matrix(study, OUTLINES)["alarms"]
    table.loc[at, "value"] = before
    assert len(alarms) == 1
    assert "centre-b" in alarms[0]
