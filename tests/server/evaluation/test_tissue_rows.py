"""Rows of outlined tissues against the table they come from."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import internal_rows
from server.evaluation.tissue_rows import tissue_rows
from server.run_folder.predictions import tissue_table
from shared.config.sections import EvaluationConfig
from shared.metrics.agreement import bland_altman, icc
from shared.metrics.tissues import TissueMetrics, TissueSums

SETTINGS = EvaluationConfig(bootstrap=200)
WHO = {"task": "breast-segmentation", "arm": "federated", "seed": 0, "centre": "d", "model_hash": "h"}
PREDICTED, TRUE = [12.0, 22.0, 31.0, 47.0], [10.0, 20.0, 35.0, 50.0]


def judged(predicted=PREDICTED, true=TRUE):
    rows = []
    for number, (mine, theirs) in enumerate(zip(predicted, true, strict=True)):
        volumes = (0.0, 0.0) if mine is None else (400.0, 4.0 * mine)
        metrics = TissueMetrics((0.9, 0.5 + 0.1 * number), volumes, (400.0, 4.0 * theirs))
        surfaces = {
            f"{name}_{part}": 1.0 + number for name in ("hd95_mm", "nsd") for part in ("breast", "fibroglandular")
        }
        if mine is None:
            surfaces |= {"hd95_mm_breast": None, "hd95_mm_fibroglandular": None}
        rows.append((f"d-p{number}-e-L", metrics.to_dict() | surfaces))
    return rows


def table(*arguments):
    return tissue_table(judged(*arguments)[::-1], centre="d", arm="federated", model_hash="h")


def by_metric(rows):
    return {row.metric: row for row in rows}


def test_every_figure_is_that_of_the_table():
    found = by_metric(tissue_rows(table(), SETTINGS, **WHO))
    assert {row.role for row in found.values()} == {"external"}
    assert {row.n for row in found.values()} == {4}
    assert found["dice_breast"].value == pytest.approx(0.9)
    assert found["dice_fibroglandular"].value == pytest.approx(0.65)
    assert (found["hd95_breast"].value, found["hd95_breast"].unit) == (2.5, "mm")
    assert (found["mae_density"].value, found["mae_density"].unit) == (pytest.approx((2 + 2 + 4 + 3) / 4), "%")
    assert found["mae_density_of_mean"].value == pytest.approx((18.75 + 8.75 + 6.25 + 21.25) / 4)
    limits = bland_altman(PREDICTED, TRUE)
    for name, value in (("bias", limits.bias), ("limit_low", limits.low), ("limit_high", limits.high)):
        assert found[f"{name}_density"].value == pytest.approx(value)
    assert found["icc_a1_density"].value == pytest.approx(icc(np.array([PREDICTED, TRUE]).T).a1)
    for name in ("dice_fibroglandular", "mae_density", "bias_density"):
        assert found[name].ci_low < found[name].value < found[name].ci_high


def test_rows_do_not_depend_on_the_tables_order_and_take_their_own_model_only():
    other = table().assign(model_hash="other", dice_breast=0.0)
    both = pd.concat([table().iloc[::-1], other], ignore_index=True)
    assert tissue_rows(both, SETTINGS, **WHO) == tissue_rows(table(), SETTINGS, **WHO)


def test_a_case_without_a_predicted_breast_has_no_density_and_counts_in_the_dice():
    found = by_metric(tissue_rows(table([None, 22.0, 31.0, 47.0], TRUE), SETTINGS, **WHO))
    assert (found["dice_breast"].n, found["mae_density"].n, found["hd95_breast"].n) == (4, 3, 3)
    assert found["mae_density"].value == pytest.approx(3.0)


def test_a_centre_without_reference_masks_has_no_rows():
    assert tissue_rows(table([], []), SETTINGS, **WHO) == []


def test_training_sites_are_summarised_from_their_sums():
    cases = [
        TissueMetrics((0.9, 0.6), (400.0, 40.0), (400.0, 48.0)),
        TissueMetrics((0.7, 0.4), (400.0, 80.0), (400.0, 72.0)),
    ]
    sums = {"a": TissueSums.of(cases[0]), "b": TissueSums.of(cases[1])}
    rows = internal_rows(
        sums, SETTINGS, task="breast-segmentation", arm="federated", seed=0, role="test", model_hash="h"
    )
    found = {(row.centre, row.metric): row for row in rows}
    assert found["a", "dice_breast"].value == pytest.approx(0.9)
    assert found["all", "dice_fibroglandular"].value == pytest.approx(0.5)
    assert (found["all", "mae_density"].value, found["all", "mae_density"].unit) == (pytest.approx(2.0), "%")
    assert found["all", "bias_density"].value == pytest.approx(0.0)
    assert found["all", "bias_density"].ci_low < 0 <= found["all", "mae_density"].ci_low
    assert found["all", "mae_density"].n == 2
