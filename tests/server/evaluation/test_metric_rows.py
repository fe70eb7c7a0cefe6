"""Rows of a classifier from the per-case table against R's pROC, hand counts and direct calls of the metrics."""

import math

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import oracle_rows, table_rows
from shared.errors import RunError
from shared.metrics.intervals import bootstrap_patients, mean_deviation, weighted_mean, wilson
from shared.metrics.roc import weighted_auc
from tests.server.evaluation.invented_scores import (
    CLASSES,
    DRAW,
    GOLDEN,
    KI67,
    METRICS,
    SETTINGS,
    WHO,
    by_metric,
    figure,
    pair,
    scored,
    subtypes,
    summarise,
    together,
)
from tests.shared.metrics.exact_agreement import limits
from tests.shared.metrics.exact_scores import macro_auc


def test_areas_are_those_of_proc():
    rows = summarise(pair())
    assert figure(rows["federated", "centre-d", "abc", "auc_er_delong"]) == pytest.approx(GOLDEN["auc_a"], abs=1e-6)
    assert figure(rows["radiomics", "centre-d", "abc", "auc_er_delong"]) == pytest.approx(GOLDEN["auc_b"], abs=1e-6)


def test_the_area_has_the_interval_of_the_patient_bootstrap():
    row = by_metric(pair())["auc_er"]
    values = np.column_stack([GOLDEN["truth"], GOLDEN["b"]])  # the later arm
    expected = bootstrap_patients(values, [str(index) for index in range(100, 120)], weighted_auc, **DRAW)
    assert figure(row) == (expected.value, expected.low, expected.high)
    assert (row.role, row.task, row.seed, row.unit, row.n) == ("external", "receptors", 3, "1", 20)


def test_the_mean_area_is_that_of_the_subtypes_from_the_same_resamples():
    truth, scores, table = subtypes()
    rows = by_metric(table)
    area = macro_auc(truth.tolist(), {name: scores[:, index] for index, name in enumerate(CLASSES)})
    assert rows["auc_macro"].value == pytest.approx(area)
    assert rows["auc_macro"].value == pytest.approx(np.mean([rows[f"auc_{name}"].value for name in CLASSES]))

    def mean_area(values, weights):
        return np.mean([weighted_auc(values[:, [index, 4 + index]], weights) for index in range(4)], axis=0)

    values = np.column_stack([truth[:, None] == np.array(CLASSES), scores])
    expected = bootstrap_patients(values, [f"{index:03d}" for index in range(80)], mean_area, **DRAW)
    assert figure(rows["auc_macro"]) == pytest.approx((expected.value, expected.low, expected.high))
    assert rows["auc_macro"].n == 80


def test_without_one_subtype_its_area_and_the_mean_are_undefined_and_the_others_stand():
    rows = by_metric(subtypes(classes=CLASSES[:3])[2])
    for metric in ("auc_macro", "auc_triple_negative", "auc_triple_negative_delong"):
        assert figure(rows[metric]) == (None, None, None)
        assert rows[metric].n == 80
    assert rows["auc_luminal_a"].ci_low < rows["auc_luminal_a"].value < rows["auc_luminal_a"].ci_high


def test_a_network_of_three_subtypes_has_no_mean_over_four():
    table = subtypes()[2]
    rows = by_metric(table.assign(score_luminal_b=math.nan))
    assert rows["auc_macro"].value is None
    assert "auc_luminal_b" not in rows


def test_a_case_that_lacks_one_subtypes_answer_counts_for_the_others():
    table = subtypes()[2]
    table.loc[[0, 1, 2], ["truth_luminal_a", "score_luminal_a"]] = math.nan
    table.loc[5, "score_luminal_b"] = math.nan
    rows = by_metric(table)
    assert [rows[f"auc_{name}"].n for name in CLASSES] == [77, 79, 80, 80]
    assert rows["auc_macro"].value == pytest.approx(np.mean([rows[f"auc_{name}"].value for name in CLASSES]))


def test_frozen_thresholds_give_counted_shares_with_wilsons_intervals():
    truth, score = [1, 1, 1, 0, 0, 0, 0, 0], [0.9, 0.5, 0.2, 0.6, 0.4, 0.3, 0.2, 0.1]
    table = together(scored(truth, score), scored(truth, score, label="pr"), scored(truth, score, label="her2"))
    rows = by_metric(table, {"er": 0.5, "pr": None})
    for name, hits, n in (("sensitivity", 2, 3), ("specificity", 4, 5), ("ppv", 2, 3), ("npv", 4, 5)):
        row = rows[f"{name}_er"]
        assert figure(row) == pytest.approx((hits / n, *wilson(hits, n)))
        assert row.n == n
        assert f"{name}_pr" not in rows
        assert f"{name}_her2" not in rows
    assert (rows["prevalence_er"].value, rows["prevalence_er"].n) == (3 / 8, 8)


def test_calibration_against_published_values():
    truth, score = [0, 0, 0, 1, 0, 1, 1, 0, 1, 1], np.arange(0.05, 1.0, 0.1)
    rows = by_metric(scored(truth, score))
    assert rows["brier_er"].value == pytest.approx(0.1625)
    assert rows["brier_er"].ci_low < 0.1625 < rows["brier_er"].ci_high
    assert rows["ece_er"].value == pytest.approx(0.33)
    assert rows["auc_er"].value == pytest.approx(0.84)
    assert rows["calibration_slope_er"].value is rows["calibration_intercept_er"].value is None  # five of a class
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.02, 0.98, 4000)
    honest = by_metric(scored(rng.random(4000) < chance, chance), {}, seed=0)
    assert honest["calibration_slope_er"].value == pytest.approx(1.0, abs=0.1)
    assert honest["calibration_intercept_er"].value == pytest.approx(0.0, abs=0.1)


def test_a_single_class_has_no_area_and_says_of_how_many_cases():
    rows = by_metric(scored([0] * 12, np.linspace(0, 0.9, 12)), {"er": 0.5})
    for metric in ("auc_er", "auc_er_delong", "calibration_slope_er", "calibration_intercept_er"):
        assert figure(rows[metric]) == (None, None, None)
        assert rows[metric].n == 12
    assert (rows["sensitivity_er"].value, rows["sensitivity_er"].n) == (None, 0)
    assert rows["specificity_er"].n == 12
    assert (rows["prevalence_er"].value, rows["brier_er"].n) == (0.0, 12)


def test_a_single_positive_has_an_area_and_no_interval():
    row = by_metric(scored([1] + [0] * 11, np.linspace(0.9, 0, 12)))["auc_er"]
    assert figure(row) == (1.0, None, None)


def test_a_centre_without_a_label_says_so_and_an_arm_that_never_answers_is_silent():
    table = together(
        scored([0, 1] * 6, np.linspace(0, 1, 12)), scored([10.0, 30.0] * 6, [20.0] * 12, label=KI67),
        scored([0, 1] * 6, np.linspace(0, 1, 12), label="pr", centre="centre-e"),
        subtypes(40, centre="centre-e")[2],
        scored([0, 1] * 6, np.linspace(0, 1, 12), label="her2", arm="radiomics"),
    )  # fmt: skip
    rows = summarise(table, {"er": 0.5})
    missing = {key[3]: row for key, row in rows.items() if key[:2] == ("federated", "centre-e")}
    for metric in ("auc_er", "auc_er_delong", "prevalence_er", "npv_er", "brier_er", "ece_er", "mae_ki67", "bias_ki67"):
        assert (figure(missing[metric]), missing[metric].n) == ((None, None, None), 0)
    assert (rows["federated", "centre-d", "abc", "auc_macro"].value, missing["auc_macro"].n) == (None, 40)
    assert {row.metric.split("_")[-1] for row in rows.values() if row.arm == "radiomics"} == {"her2", "delong"}
    assert not any("malignant" in key[3] for key in rows)


def test_two_cases_of_a_patient_are_drawn_together_and_delong_is_left_out():
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(40) < 0.5, 2).astype(float)
    score = np.repeat(rng.uniform(0, 0.7, 40), 2) + 0.2 * truth
    rows = by_metric(scored(truth, score, patients=[f"p{index // 2:02d}" for index in range(80)]))
    assert "auc_er_delong" not in rows
    apart = by_metric(scored(truth, score))
    assert rows["auc_er"].value == pytest.approx(apart["auc_er"].value)
    wide, narrow = (found["auc_er"].ci_high - found["auc_er"].ci_low for found in (rows, apart))
    assert wide > 1.25 * narrow
    assert rows["auc_er"].n == 80


def test_ki67_by_hand_with_the_floor_and_the_limits_of_agreement():
    truth, score = np.array([5.0, 10.0, 20.0, 45.0]), np.array([10.0, 10.0, 30.0, 30.0])
    rows = by_metric(scored(truth, score, label=KI67))
    assert set(rows) == {
        "mae_ki67",
        "mae_ki67_of_mean",
        "bias_ki67",
        "limit_low_ki67",
        "limit_high_ki67",
        "icc_a1_ki67",
    }
    assert {row.unit for name, row in rows.items() if name != "icc_a1_ki67"} == {"%"}
    assert {row.n for row in rows.values()} == {4}
    assert rows["mae_ki67"].value == (5 + 0 + 10 + 15) / 4
    assert rows["mae_ki67_of_mean"].value == (15 + 10 + 0 + 25) / 4
    found = [rows[name].value for name in ("bias_ki67", "limit_low_ki67", "limit_high_ki67")]
    assert found == pytest.approx(limits(score, truth))
    drawn = bootstrap_patients(np.abs(score - truth), list("abcd"), weighted_mean, **DRAW)
    assert figure(rows["mae_ki67"]) == pytest.approx((drawn.value, drawn.low, drawn.high))


def test_the_floor_of_a_resample_is_around_its_own_mean():
    found = mean_deviation(np.array([[5.0], [10.0], [45.0]]), np.array([[1.0, 1, 1], [2, 0, 1], [0, 3, 0]]))
    np.testing.assert_allclose(found, [(15 + 10 + 25) / 3, 160 / 9, 0.0])


def test_the_ceiling_stands_as_an_arm_without_interval_for_the_labels_that_the_task_has():
    oracle = {"luminal_a": 0.9, "er": 0.8, "macro": 0.85, "ki67_high": 0.7}
    subtype = [metric for metric in METRICS if not metric.labels or set(metric.labels) <= set(CLASSES)]
    rows = list(oracle_rows(oracle, subtype, task="t", seed=3, centre="centre-e"))
    assert [(row.arm, row.centre, row.metric, row.value, row.unit) for row in rows] == [
        ("oracle", "centre-e", "auc_luminal_a", 0.9, "1"), ("oracle", "centre-e", "auc_macro", 0.85, "1"),
    ]  # fmt: skip
    assert {(row.ci_low, row.ci_high, row.model_hash, row.n) for row in rows} == {(None, None, "", 0)}


def test_the_order_of_the_table_has_no_say():
    table = together(subtypes()[2], subtypes(seed=1, arm="radiomics", model_hash="")[2], pair("er"), pair("pr"))
    table = table.assign(threshold_er=0.5)
    again = table.sample(frac=1.0, random_state=1)
    first = table_rows(table, METRICS, SETTINGS, **WHO)
    assert first == table_rows(again, METRICS, SETTINGS, **WHO)
    assert {(row.arm, row.model_hash) for row in first} == {
        ("federated", "abc"), ("radiomics", "abc"), ("radiomics", ""),
    }  # fmt: skip


def test_a_threshold_is_a_models_own():
    one, two = scored([0, 1] * 6, np.linspace(0, 1, 12)), scored([0, 1] * 6, np.linspace(0, 1, 12), model_hash="def")
    rows = summarise(pd.concat([one.assign(threshold_er=0.5), two]))
    at = {key[2] for key in rows if key[3] == "sensitivity_er"}
    assert at == {"abc"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="patient"), "lacks patient"),
        (lambda table: table.assign(model_hash=None), "empty cell in case, patient"),
        (lambda table: table.assign(score_er=math.inf), "not finite"),
        (lambda table: table.assign(score_ki67_percent=math.inf), "not finite"),
        (lambda table: table.assign(score_er=1.5), "no probability"),
        (lambda table: table.assign(truth_er=2.0), "other than 0 or 1"),
        (lambda table: pd.concat([table, table]), "twice"),
        (
            lambda table: pd.concat([table, table.assign(arm="fusion", truth_er=1 - table["truth_er"])]),
            "'truth_er' for one case",
        ),
        (lambda table: pd.concat([table, table.assign(arm="fusion", patient="p")]), "'patient' for one case"),
        (lambda table: table.assign(patient="p", centre=["x"] * 19 + ["y"]), "'centre' for one patient"),
    ],
)
def test_what_is_no_such_table_is_refused_without_naming_a_patient(change, words):
    table = change(pair().query("arm == 'federated'"))
    with pytest.raises(RunError, match=words) as error:
        table_rows(table, METRICS, SETTINGS, **WHO)
    assert "centre-d-0" not in str(error.value)


def test_without_a_case_there_are_no_rows():
    assert table_rows(pair().head(0), METRICS, SETTINGS, **WHO) == []
