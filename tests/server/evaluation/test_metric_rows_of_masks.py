"""Rows of outlined lesions and tissues from tables and from sums: hand counts, the metrics called directly."""

import math
from functools import reduce
from operator import add
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import sum_rows, table_rows
from server.run_folder.predictions import case_table, read_predictions, write_predictions
from shared.config.sections import EvaluationConfig
from shared.evaluation import table_row
from shared.metrics.agreement import icc
from shared.metrics.intervals import wilson
from shared.tasks import task_named
from tests.server.evaluation.invented_outlines import CASES, metrics, row, table
from tests.shared.metrics.exact_agreement import limits

SETTINGS = EvaluationConfig(bootstrap=500)
LESIONS, TISSUES = task_named("lesion-segmentation"), task_named("breast-segmentation")
PREDICTED, TRUE = [12.0, 22.0, 31.0, 47.0], [10.0, 20.0, 35.0, 50.0]


def rows_of(cases, task=LESIONS):
    return table_rows(cases, task.metrics, SETTINGS, task=task.name, seed=1, role="external")


def by_metric(rows):
    return {row.metric: row for row in rows}


def test_means_rest_on_the_cases_that_have_the_figure():
    rows = by_metric(rows_of(table()))
    assert rows["dice"].value == pytest.approx((0.9 + 0.8 + 0.7 + 0.0 + 0.6) / 5)
    assert rows["hd95"].value == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert (rows["dice"].n, rows["hd95"].n, rows["ppv"].n, rows["sensitivity"].n) == (5, 4, 4, 5)
    assert (rows["hd95"].unit, rows["dice"].unit, rows["volume_bias"].unit) == ("mm", "1", "ml")


def test_lesions_are_pooled_and_failures_counted():
    rows = by_metric(rows_of(table()))
    assert rows["lesion_f1"].value == pytest.approx(2 * 4 / (2 * 4 + 2 + 1))
    assert (rows["failures"].value, rows["no_overlap"].value, rows["failures"].n) == (1.0, 1.0, 5)
    assert (rows["failure_share"].ci_low, rows["failure_share"].ci_high) == pytest.approx(wilson(1, 5))


def test_volumes_agree_with_the_metrics_called_directly():
    rows = by_metric(rows_of(table()))
    volumes = np.array([[item["volume_ml"], item["reference_volume_ml"]] for item in CASES.values()])
    assert rows["volume_icc_a1"].value == pytest.approx(icc(volumes).value)
    found = [rows[f"volume_{name}"].value for name in ("bias", "limit_low", "limit_high")]
    assert found == pytest.approx(limits(*volumes.T))


def test_every_interval_holds_its_value_and_four_patients_are_the_units():
    rows = rows_of(table())
    bounded = [row for row in rows if row.ci_low is not None]
    assert len(bounded) >= 12
    assert all(row.ci_low <= row.value <= row.ci_high for row in bounded)
    # Both breasts of one patient are drawn together: other intervals than over five patients.
    alone = {f"centre-d-{index:010d}-000001-L": item for index, item in enumerate(CASES.values())}
    other = by_metric(rows_of(table(alone)))["dice"]
    together = by_metric(rows)["dice"]
    assert other.value == together.value
    assert (other.ci_low, other.ci_high) != (together.ci_low, together.ci_high)


def test_ratios_stand_beside_differences_when_the_spread_grows():
    rng = np.random.default_rng(0)
    size = rng.lognormal(1, 1, 40)
    ratio = np.exp(rng.normal(0.1, 0.3, 40))
    grown = {
        f"centre-d-{i:010d}-000001-L": metrics(0.8, v, r)
        for i, (v, r) in enumerate(zip(size * ratio, size, strict=True))
    }
    rows = by_metric(rows_of(table(grown)))
    expected, low, _ = limits(size * ratio, size, log=True)
    assert rows["volume_ratio_bias"].value == pytest.approx(expected)
    assert rows["volume_ratio_limit_low"].value == pytest.approx(low)
    assert "volume_ratio_bias" not in by_metric(rows_of(table()))


def test_a_case_without_any_interval_has_a_value_and_no_bounds():
    rows = by_metric(rows_of(table(dict(list(CASES.items())[:1]))))
    assert (rows["dice"].value, rows["dice"].ci_low, rows["dice"].n) == (pytest.approx(0.9), None, 1)
    assert rows["volume_icc_a1"].value is None


def test_numbers_are_identical_when_regenerated_from_the_stored_predictions(tmp_path):
    first = rows_of(table())  # scenario 73
    write_predictions(tmp_path, "lesion-segmentation", table())
    pd.testing.assert_frame_equal(read_predictions(tmp_path, "lesion-segmentation"), table())
    assert rows_of(read_predictions(tmp_path, "lesion-segmentation")) == first


def test_only_failures_still_make_a_table_and_no_nan(tmp_path):
    lost = {key: metrics(0.0, 0.0, 2.0) for key in CASES}
    write_predictions(tmp_path, "lesion-segmentation", table(lost))
    rows = by_metric(rows_of(read_predictions(tmp_path, "lesion-segmentation")))
    assert (rows["dice"].value, rows["hd95"].value, rows["hd95"].n, rows["failures"].value) == (0.0, None, 0, 5.0)
    assert all(row.value is None or math.isfinite(row.value) for row in rows.values())


def test_each_model_is_summarised_from_its_own_cases():
    other = table({"centre-d-x-1-L": metrics(0.1, 1.0, 1.0)}, model_hash="other")
    both = rows_of(pd.concat([table(), other]))
    assert [item for item in both if item.model_hash == "abc"] == rows_of(table())
    assert by_metric(item for item in both if item.model_hash == "other")["dice"].value == pytest.approx(0.1)


def test_detections_at_a_number_of_false_positives_by_hand():
    found = by_metric(rows_of(table()))
    # Four of five lesions without a false positive; the two extra pieces come later, 0.4 a case.
    for name in ("froc_0.40", "froc_0.67", "froc_1.00"):
        assert found[name].value == pytest.approx(4 / 5)
        assert found[name].n == 5
    missed = {key: metrics(0.9, 4.0, 4.1) for key in CASES}
    missed["centre-d-bbbbbbbbbb-000001-L"] = metrics(0.7, 9.0, 8.0, lesions_tp=0, lesions_fp=3, lesions_fn=1)
    found = by_metric(rows_of(table(missed)))
    assert found["froc_1.00"].value == found["froc_0.40"].value == pytest.approx(4 / 5)
    assert found["specificity"].value == pytest.approx(0.99)


def sums(cases):
    return reduce(add, (LESIONS.sums(row(case)) for case in cases))


def summed(by_site):
    rows = sum_rows(by_site, LESIONS, SETTINGS, seed=1, role="test", model_hash="abc")
    return {(item.centre, item.metric): item for item in rows}


def test_rows_of_sums_are_those_of_each_site_and_of_all_together():
    cases = list(CASES.values())
    sites = {"centre-a": sums(cases[:2]), "centre-b": sums(cases[2:])}
    rows = summed(sites)
    assert rows["centre-a", "dice"].value == pytest.approx(0.85)
    assert rows["all", "dice"].value == pytest.approx(3.0 / 5)
    assert (rows["all", "dice"].n, rows["all", "hd95"].n, rows["all", "failures"].value) == (5, 4, 1.0)
    assert 0.0 <= rows["centre-a", "dice"].ci_low <= rows["centre-a", "dice"].ci_high == 1.0  # t would pass 1
    assert rows["centre-a", "hd95"].ci_low == 0.0  # t would pass 0
    assert rows["centre-a", "volume_bias"].ci_low < 0
    assert {centre for centre, _ in summed({"centre-a": sites["centre-a"]})} == {"centre-a"}


def test_rows_of_sums_have_the_values_of_the_table():
    rows, found = summed({"centre-a": sums(CASES.values())}), by_metric(rows_of(table()))
    compared = {metric for _, metric in rows}
    assert compared >= {"dice", "hd95", "specificity", "lesion_f1", "froc_0.40", "failures", "volume_bias"}
    for metric in compared:
        assert rows["centre-a", metric].value == pytest.approx(found[metric].value), metric
        assert rows["centre-a", metric].n == found[metric].n, metric


def tissues(predicted=PREDICTED, true=TRUE):
    """Cases of 400 ml breasts with these densities, in the order of the table's making reversed."""
    rows = []
    for number, (mine, theirs) in enumerate(zip(predicted, true, strict=True)):
        figures = {
            "dice_breast": 0.9,
            "dice_fibroglandular": 0.5 + 0.1 * number,
            "density_percent": mine,
            "reference_density_percent": theirs,
        }
        figures |= {f"{name}_{part}": None if mine is None and name == "hd95_mm" else 1.0 + number
                    for name in ("hd95_mm", "nsd") for part in ("breast", "fibroglandular")}  # fmt: skip
        rows.append(table_row(SimpleNamespace(key=f"d-p{number}-e-L"), "d", "federated", "h", figures))
    return case_table(rows[::-1])


def test_every_figure_of_tissues_is_that_of_the_table():
    found = by_metric(rows_of(tissues(), TISSUES))
    assert {item.role for item in found.values()} == {"external"}
    assert {item.n for item in found.values()} == {4}
    assert found["dice_breast"].value == pytest.approx(0.9)
    assert found["dice_fibroglandular"].value == pytest.approx(0.65)
    assert (found["hd95_breast"].value, found["hd95_breast"].unit) == (2.5, "mm")
    assert (found["mae_density"].value, found["mae_density"].unit) == (pytest.approx((2 + 2 + 4 + 3) / 4), "%")
    assert found["mae_density_of_mean"].value == pytest.approx((18.75 + 8.75 + 6.25 + 21.25) / 4)
    for name, value in zip(("bias", "limit_low", "limit_high"), limits(PREDICTED, TRUE), strict=True):
        assert found[f"{name}_density"].value == pytest.approx(value)
    assert found["icc_a1_density"].value == pytest.approx(icc(np.array([PREDICTED, TRUE]).T).value)
    for name in ("dice_fibroglandular", "mae_density", "bias_density"):
        assert found[name].ci_low < found[name].value < found[name].ci_high


def test_rows_do_not_depend_on_the_tables_order():
    assert rows_of(tissues().iloc[::-1], TISSUES) == rows_of(tissues(), TISSUES)


def test_a_case_without_a_predicted_breast_has_no_density_and_counts_in_the_dice():
    found = by_metric(rows_of(tissues([None, 22.0, 31.0, 47.0], TRUE), TISSUES))
    assert (found["dice_breast"].n, found["mae_density"].n, found["hd95_breast"].n) == (4, 3, 3)
    assert found["mae_density"].value == pytest.approx(3.0)


def test_a_centre_without_reference_masks_has_no_rows():
    assert rows_of(tissues([], []), TISSUES) == []


def test_sites_with_tissues_are_summarised_from_their_sums():
    names = ("dice_breast", "dice_fibroglandular", "density_percent", "reference_density_percent")
    cases = [dict(zip(names, values, strict=True)) for values in ((0.9, 0.6, 10.0, 12.0), (0.7, 0.4, 20.0, 18.0))]
    sites = {"a": TISSUES.sums(cases[0]), "b": TISSUES.sums(cases[1])}
    rows = sum_rows(sites, TISSUES, SETTINGS, seed=0, role="test", model_hash="h")
    found = {(item.centre, item.metric): item for item in rows}
    assert found["a", "dice_breast"].value == pytest.approx(0.9)
    assert found["all", "dice_fibroglandular"].value == pytest.approx(0.5)
    assert (found["all", "mae_density"].value, found["all", "mae_density"].unit) == (pytest.approx(2.0), "%")
    assert found["all", "bias_density"].value == pytest.approx(0.0)
    assert found["all", "bias_density"].ci_low < 0 <= found["all", "mae_density"].ci_low
    assert found["all", "mae_density"].n == 2
