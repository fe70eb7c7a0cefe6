"""Scores of binary labels: AUC of histograms against counting pairs, the threshold against trying every edge."""

import math
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.metric import binned_auc, kinds_of, sums_of
from shared.metrics.roc import delong, hanley_mcneil, weighted_auc
from shared.metrics.scores import label_metrics, log_losses, macro_area, macro_auc, separation, youden_threshold
from shared.metrics.sums import BINS, Histogram, Sums
from tests.shared.metrics import exact_scores

CASES = st.lists(st.tuples(st.integers(0, 1), st.floats(0.0, 1.0)), min_size=1, max_size=40)
CLASSES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
ER = {metric.name: metric for metric in label_metrics("er", "ER")}


def histogram(pairs):
    return reduce(add, (Histogram.of(truth, score) for truth, score in pairs), Histogram())


def columns(pairs, threshold=None):
    return np.array([[*pair, math.nan if threshold is None else threshold] for pair in pairs], np.float64)


def value(metric, values):
    read = metric.read(values)
    read = read[np.isfinite(read).all(axis=1)]
    return float(metric.statistic(read, np.ones((1, len(read))))[0])


@given(CASES)
def test_the_binned_area_is_off_by_half_the_pairs_in_one_bin_at_most(pairs):
    truth, score = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    exact, found = delong(truth, score).value, binned_auc(histogram(pairs))
    if exact is None:
        assert found is None
        return
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    together = (place[truth == 1][:, None] == place[truth == 0]).mean()
    assert abs(found - exact) <= together / 2 + 1e-12


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, BINS - 1)), min_size=1, max_size=40))
def test_with_one_score_a_bin_the_area_is_exact(pairs):
    scores = [(index + 0.5) / BINS for _, index in pairs]
    found = binned_auc(histogram((truth, score) for (truth, _), score in zip(pairs, scores, strict=True)))
    assert found == pytest.approx(delong([truth for truth, _ in pairs], scores).value)


def test_spread_scores_lose_less_than_a_hundredth():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.0, 2.0):
        truth = (rng.random(400) < 0.3).astype(int)
        score = 1 / (1 + np.exp(-rng.normal(shift * truth, 1.0)))
        exact = delong(truth, score).value
        assert binned_auc(histogram(zip(truth.tolist(), score, strict=True))) == pytest.approx(exact, abs=0.01)


def test_areas_by_hand():
    # Positives in bins 6 and 10, negatives in 6 and 2: 0.5 + 1 + 1 + 1 of four pairs.
    found = histogram([(1, 0.31), (1, 0.5), (0, 0.34), (0, 0.1)])
    assert binned_auc(found) == 3.5 / 4
    assert found.positives[6] == found.positives[10] == found.negatives[6] == found.negatives[2] == 1


def test_sites_of_one_class_each_have_an_area_together_only():
    sick, healthy = histogram([(1, 0.9), (1, 0.4)]), histogram([(0, 0.2), (0, 0.6)])
    assert binned_auc(sick) is binned_auc(healthy) is youden_threshold(sick) is youden_threshold(healthy) is None
    assert binned_auc(sick + healthy) == 3 / 4
    assert youden_threshold(sick + healthy) is not None


def labelled(truth, scores, names=CLASSES):
    """A site's sums over cases of which each has one class."""
    metrics = (macro_auc(dict.fromkeys(CLASSES, "")),)
    rows = (
        {f"truth_{name}": float(name == own) for name in names}
        | {f"score_{name}": row[CLASSES.index(name)] for name in names}
        for own, row in zip(truth, scores, strict=True)
    )
    return reduce(add, (sums_of(metrics, row) for row in rows), Sums.zero(kinds_of(metrics)))


def test_the_mean_area_is_that_of_the_classes_and_undefined_with_one_of_them():
    rng = np.random.default_rng(1)
    truth = rng.choice(CLASSES, 60)
    scores = (rng.integers(0, BINS, (60, 4)) + 0.5) / BINS
    mean = macro_auc(dict.fromkeys(CLASSES, ""))
    expected = exact_scores.macro_auc(truth.tolist(), {name: scores[:, index] for index, name in enumerate(CLASSES)})
    assert mean.of(labelled(truth, scores)) == pytest.approx(expected)
    # The same on the cases themselves.
    table = pd.DataFrame({f"truth_{name}": (truth == name).astype(float) for name in CLASSES}).assign(
        **{f"score_{name}": scores[:, index] for index, name in enumerate(CLASSES)}
    )
    assert value(mean, table[list(mean.columns)].to_numpy(np.float64)) == pytest.approx(expected)
    kept = truth != "luminal_b"
    without = labelled(truth[kept], scores[kept])
    assert binned_auc(without.histogram("luminal_a")) is not None
    assert mean.of(without) is None


def test_the_mean_area_leaves_a_case_that_lacks_one_answer_out_of_that_label_alone():
    rng = np.random.default_rng(2)
    values = np.column_stack([rng.integers(0, 2, 30), rng.random(30), rng.integers(0, 2, 30), rng.random(30)])
    values[3, 2:] = -1.0
    found = macro_area(values, np.ones((1, 30)))
    kept = np.delete(values, 3, axis=0)
    expected = (weighted_auc(values[:, :2], np.ones((1, 30))) + weighted_auc(kept[:, 2:], np.ones((1, 29)))) / 2
    np.testing.assert_allclose(found, expected)


def test_a_label_without_its_answer_is_lacking_and_a_case_without_any_has_no_figure():
    nan = math.nan
    mean = macro_auc({"a": "A", "b": "B"})
    read = mean.read(np.array([[1.0, 0.9, 0.0, 0.1], [1.0, nan, 0.0, 0.3], [nan, 0.2, 1.0, 0.8], [1.0, nan, nan, 0.5]]))
    assert read[:3].tolist() == [[1.0, 0.9, 0.0, 0.1], [-1.0, -1.0, 0.0, 0.3], [-1.0, -1.0, 1.0, 0.8]]
    assert np.isnan(read[3]).all()


@given(CASES)
def test_no_edge_is_better_than_the_threshold(pairs):
    truth, score = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    found = youden_threshold(histogram(pairs))
    if len(set(truth)) == 1:
        assert found is None
        return
    # What the histogram knows of each score is its bin.
    centre = (np.minimum((score * BINS).astype(int), BINS - 1) + 0.5) / BINS

    def gain(cut):
        called, positive = centre >= cut, truth.astype(bool)
        return called[positive].mean() - called[~positive].mean()

    assert gain(found) == pytest.approx(max(gain(index / BINS) for index in range(BINS)))
    assert found * BINS == pytest.approx(round(found * BINS))
    # The same calls as the threshold on the scores themselves, were they the bins' middles.
    exact = exact_scores.youden_threshold(truth, centre)
    assert ((centre >= found) == (centre >= exact)).all()


def test_a_threshold_in_a_gap_stands_in_its_middle():
    # Edges 0.2 to 0.8 all part the classes.
    assert youden_threshold(histogram([(0, 0.16), (0, 0.19), (1, 0.81), (1, 0.97)])) == 0.5
    # Adjacent bins leave one edge.
    assert youden_threshold(histogram([(0, 0.42), (1, 0.46)])) == 0.45
    # A score that orders the cases backwards calls every case 1.
    assert youden_threshold(histogram([(1, 0.2), (0, 0.8)])) <= 0.2


def test_log_losses_by_hand_and_a_certain_error_costs_much_and_not_everything():
    pairs = np.array([[1, 0.8], [0, 0.8], [0, 1.0], [1, 1.0], [math.nan, 0.5], [1, math.nan]])
    found = log_losses(pairs)[:, 0]
    assert found[:4] == pytest.approx([-math.log(0.8), -math.log(0.2), -math.log(1e-6), 0.0], abs=1e-5)
    assert np.isnan(found[4:]).all()


def test_what_holds_at_the_threshold_is_counted_by_hand():
    pairs = [(1, 0.9), (1, 0.5), (1, 0.2), (0, 0.6), (0, 0.4), (0, 0.3), (0, 0.2), (0, 0.1)]
    values = columns(pairs, 0.5)  # a score at the threshold is a call of 1
    assert value(ER["sensitivity_er"], values) == 2 / 3
    assert value(ER["specificity_er"], values) == 4 / 5
    assert value(ER["ppv_er"], values) == 2 / 3
    assert value(ER["npv_er"], values) == 4 / 5
    for name in ("sensitivity_er", "npv_er"):
        read = ER[name].read(columns([(1, math.nan), (math.nan, 0.5), *pairs]))
        assert np.isnan(read).all()  # without a threshold nothing is called


def test_brier_and_prevalence_by_hand():
    pairs = np.array([[1, 0.9], [0, 0.4], [0, math.nan]])
    assert value(ER["brier_er"], pairs) == pytest.approx((0.01 + 0.16) / 2)
    assert value(ER["prevalence_er"], pairs) == 0.5  # of those that were answered


def test_the_separation_is_the_mean_area_with_the_mean_error_of_hanley_and_mcneil():
    er = histogram([(0, 0.1), (0, 0.2), (0, 0.3), (0, 0.45), (1, 0.4), (1, 0.7), (1, 0.8), (1, 0.9)])
    pr = histogram([(1, 0.1), (1, 0.9), (0, 0.4)])
    sums = Sums({"er": er, "pr": pr, "her2": histogram([(1, 0.1)])})
    areas = (15 / 16, 1 / 2)
    errors = (hanley_mcneil(areas[0], 4, 4), hanley_mcneil(areas[1], 2, 1))
    assert separation(sums, ("er", "pr", "her2")) == pytest.approx((sum(areas) / 2, sum(errors) / 2))
    assert separation(sums, ("her2",)) is None


def test_a_labels_metrics_in_order_and_where_its_area_is_shown():
    assert list(ER)[:2] == ["auc_er", "auc_er_delong"]
    assert set(ER) >= {f"{name}_er" for name in ("brier", "log_loss", "ece", "calibration_slope", "npv")}
    assert "card" in ER["auc_er"].shown
    led = {metric.name: metric.shown for metric in label_metrics("er", "ER", led=False)}
    assert "card" not in led["auc_er"]
    assert "card" in macro_auc({"a": "A", "b": "B"}).shown
