"""A metric from a site's sums is the metric of its cases, and sums that no cases can have are refused."""

import math
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared.metrics.intervals import total
from shared.metrics.metric import Metric, check_figures, kinds_of, sums_of
from shared.metrics.overlap import pooled_f1
from shared.metrics.paired_numbers import NumberPair, agreement_metrics, error_metrics
from shared.metrics.roc import weighted_auc
from shared.metrics.scores import label_metrics
from shared.metrics.sums import BINS, Histogram, Moments, Sums
from shared.tasks import TASKS, task_named

DICE = Metric("dice", "1", "Dice", "Overlap.", ("dice",), sent="moments")
HD95 = Metric("hd95", "mm", "HD95", "Distance.", ("hd95_mm",), higher_is_better=False, sent="moments")
F1 = Metric("f1", "1", "F1", "Pooled.", ("tp", "fp", "fn"), pooled_f1, sent="counts")
FAILURES = Metric("failures", "cases", "Failures", "Count.", ("failed",), total, interval="none", sent="counts")
VOLUME = NumberPair("volume_{}", "volume", "ml", ("volume_ml", "reference_volume_ml"))
ERROR, *_ = error_metrics(VOLUME)
BIAS = next(metric for metric in agreement_metrics(VOLUME) if metric.name == "volume_bias")
SEGMENTED = (DICE, HD95, F1, FAILURES, ERROR, BIAS)
ER = tuple(label_metrics("er", "ER"))

CASE = st.fixed_dictionaries(
    {
        "dice": st.floats(0, 1),
        "hd95_mm": st.none() | st.floats(0, 90),
        "tp": st.integers(0, 3),
        "fp": st.integers(0, 3),
        "fn": st.integers(0, 3),
        "failed": st.sampled_from([0.0, 1.0]),
        "volume_ml": st.floats(0, 50),
        "reference_volume_ml": st.none() | st.floats(0, 50),
    }
)


def on_cases(metric, rows):
    """The figure of the table itself: its finite values, each case once."""
    values = metric.values(pd.DataFrame(rows))
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        found = float(metric.statistic(values, np.ones((1, len(values))))[0])
    return found if math.isfinite(found) else None


def summed(metrics, rows):
    return reduce(add, (sums_of(metrics, row) for row in rows), Sums.zero(kinds_of(metrics)))


@settings(max_examples=100)
@given(st.lists(CASE, min_size=1, max_size=8), st.integers(0, 8))
def test_from_the_sums_of_sites_every_metric_is_that_of_all_their_cases(rows, cut):
    sums = summed(SEGMENTED, rows[:cut]) + summed(SEGMENTED, rows[cut:])
    check_figures(SEGMENTED, sums)
    assert sums.n == len(rows)
    for metric in SEGMENTED:
        expected = on_cases(metric, rows)
        assert metric.of(sums) == (None if expected is None else pytest.approx(expected, abs=1e-9)), metric.name


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, BINS - 1)), min_size=1, max_size=20))
def test_the_area_and_the_loss_of_a_label_are_those_of_its_cases(pairs):
    rows = [{"truth_er": float(truth), "score_er": (place + 0.5) / BINS} for truth, place in pairs]
    sums = summed(ER, [*rows, {}])  # a case without the label
    check_figures(ER, summed(ER, rows))
    assert sums.histogram("er").n == len(rows)
    for metric in (ER[0], next(metric for metric in ER if metric.name == "log_loss_er")):
        expected = on_cases(metric, rows)
        assert metric.of(sums) == (None if expected is None else pytest.approx(expected))


def test_what_is_not_sent_has_no_figure_from_sums():
    rows = [{"truth_er": 1.0, "score_er": 0.7}, {"truth_er": 0.0, "score_er": 0.2}]
    sums = summed(ER, rows)
    brier = next(metric for metric in ER if metric.name == "brier_er")
    assert (brier.of(sums), brier.estimate(sums, 0.95), brier.kinds, brier.parts(rows[0])) == (None, None, {}, {})


def test_a_mean_has_students_interval_cut_where_its_range_ends():
    rows = [{"dice": value, "volume_ml": volume, "reference_volume_ml": 4.0} for value, volume in
            ((0.99, 3.0), (0.9, 4.5), (0.6, 4.0))]  # fmt: skip
    sums = summed((DICE, BIAS), rows)
    found = DICE.estimate(sums, 0.95)
    low, high = stats.t.interval(0.95, 2, loc=np.mean([0.99, 0.9, 0.6]), scale=stats.sem([0.99, 0.9, 0.6]))
    assert high > 1
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.83, low, 1.0, 3))
    bias = BIAS.estimate(sums, 0.95)
    assert bias.low < bias.value < 0 < bias.high  # a signed figure is not cut at 0
    low = HD95.estimate(summed((HD95,), [{"hd95_mm": 0.1}, {"hd95_mm": 30.0}]), 0.95).low
    assert low == 0.0


def test_a_figure_that_no_case_has_is_told_of_and_a_label_that_is_not_there_is_not():
    sums = summed((*SEGMENTED, *ER), [{"dice": 0.0, "tp": 0, "fp": 0, "fn": 1, "failed": 1.0}])
    assert (HD95.estimate(sums, 0.95).value, HD95.estimate(sums, 0.95).n) == (None, 1)
    assert (F1.estimate(sums, 0.95).value, F1.estimate(sums, 0.95).low) == (0.0, None)
    assert all(metric.estimate(sums, 0.95) is None for metric in ER)
    assert all(metric.estimate(Sums(), 0.95) is None for metric in SEGMENTED)


def test_an_area_of_a_single_class_is_told_of_without_a_value():
    found = ER[0].estimate(summed(ER, [{"truth_er": 1.0, "score_er": 0.7}]), 0.95)
    assert (found.value, found.low, found.n) == (None, None, 1)


def test_a_table_without_the_columns_has_no_values():
    assert np.isnan(DICE.values(pd.DataFrame({"case": ["a", "b"]}))).all()
    assert DICE.values(pd.DataFrame({"dice": [0.5, None]})).tolist() == [[0.5], [pytest.approx(math.nan, nan_ok=True)]]


def test_only_a_mean_gives_each_case_a_share():
    assert DICE.is_mean
    assert not F1.is_mean
    assert not Metric("auc", "1", "", "", ("a", "b"), weighted_auc).is_mean


GOOD = Sums(
    {
        "n": 2,
        "auc": Histogram(),
        "er": Histogram.of(1, 0.9) + Histogram.of(0, 0.2),
        "log_loss_er": Moments(2, 0.5, 0.2),
        "dice": Moments(2, 1.5, 1.13),
        "volume_bias": Moments(2, -3.0, 5.0),
        "volume_mae": Moments(2, 3.0, 5.0),
    }
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"log_loss_er": Moments(2, -9.0, 81.0)}, "'log_loss_er' cannot be -9.0"),  # would win every round
        ({"dice": Moments(2, 2.5, 4.0)}, "'dice' cannot be 2.5 over 2 cases"),  # so would this
        ({"dice": Moments(2, -0.1, 1.0)}, "'dice' cannot be"),
        ({"dice": Moments(2, 1.5, 1.0)}, "'dice' has a sum of squares that contradicts"),
        ({"dice": Moments(0, 0.5, 0.25)}, "'dice' cannot be 0.5 over 0 cases"),
        ({"volume_bias": Moments(0, -1.0, 1.0)}, "'volume_bias' has a sum of squares that contradicts"),
        ({"log_loss_er": Moments(1, 0.5, 0.3)}, "'log_loss_er' counts other cases"),
        ({"er": Histogram.of(1, 0.9)}, "'log_loss_er' counts other cases"),
        ({"volume_bias": Moments(1, -1.0, 1.0)}, "'volume_bias' counts other cases"),
        ({"n": 9}, "'n' contradicts"),
        ({"volume_bias": Moments(2, 1.7e308, 1.7e308)}, "'volume_bias' cannot be 1.7e"),  # its square is infinite
        ({"volume_bias": Moments(2, -3e5, 9e10)}, "'volume_bias' cannot be"),  # 100 litres in a case
        ({"volume_mae": Moments(2, 3.0, 1.7e308)}, "'volume_mae' cannot be 3.0 over 2 cases, with squares"),
        ({"log_loss_er": Moments(2, 1.7e308, 1.7e308)}, "'log_loss_er' cannot be"),
    ],
)
def test_sums_that_no_cases_can_have_are_refused(change, words):
    metrics = (DICE, ERROR, BIAS, *ER)
    check_figures(metrics, GOOD)
    with pytest.raises(ValueError, match=words):
        check_figures(metrics, Sums({**GOOD.parts, **change}))


@pytest.mark.parametrize("name", TASKS)
def test_every_tasks_metrics_are_named_once_with_their_units_and_words(name):
    task = task_named(name)
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names)
    assert {metric.unit for metric in task.metrics} <= {"1", "mm", "ml", "%", "cases", "nat"}
    for metric in task.metrics:
        assert metric.title
        assert metric.meaning.endswith(".")
        assert metric.meaning.format(nsd_tolerance_mm=2.0, lesion_overlap=0.1)
    assert task.headline.sent != "nothing"  # the sites' rounds are told of by it
    assert "card" in task.headline.shown
    assert Sums.from_flat(Sums.zero(task.kinds).to_flat(), task.kinds) == Sums.zero(task.kinds)
