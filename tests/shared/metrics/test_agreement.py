"""ICC against R's psych, Bland-Altman against hand calculation and simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from shared.metrics.agreement import LIMITS, as_ratio, bias, icc, icc_a1, spread_grows
from tests.shared.metrics.exact_agreement import limits

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["icc"]


def test_icc_is_that_of_psych():
    found = icc(GOLDEN["ratings"])
    assert found.value == pytest.approx(GOLDEN["a1"], abs=1e-9)
    assert (found.low, found.high) == pytest.approx(GOLDEN["a1_interval"], abs=5e-3)


def test_the_interval_of_a1_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 4 / (4 + 0.25 + 1)  # subjects, raters, rest
    hits = 0
    for _ in range(400):
        table = rng.normal(0, 2, (30, 1)) + rng.normal(0, 0.5, (1, 4)) + rng.normal(0, 1, (30, 4))
        found = icc(table)
        hits += found.low <= truth <= found.high
    assert 0.915 <= hits / 400 <= 0.985


def test_the_weighted_statistic_is_icc_of_the_repeated_cases():
    values = np.random.default_rng(4).gamma(2.0, 3.0, (9, 2)) + 100
    weights = np.random.default_rng(5).multinomial(9, [1 / 9] * 9, size=20).astype(float)
    slow = [icc(np.repeat(values, row.astype(int), axis=0)).value for row in weights]
    np.testing.assert_allclose(icc_a1(values, weights), slow, rtol=1e-9)


def test_absolute_agreement_sees_a_constant_offset():
    size = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = icc(np.column_stack([size, size + 5]))
    assert found.value < 0.9
    perfect = icc(np.column_stack([size, size]))
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("ratings", [[[1, 2]], [[1], [2]], [[1, 2], [3, np.nan]], [1, 2, 3], [[2, 2], [2, 2]]])
def test_ratings_without_a_correlation_are_refused(ratings):
    with pytest.raises(ValueError, match=r"ratings"):
        icc(ratings)


def test_bias_and_limits_by_hand():
    a, b = np.array([10.0, 12.0, 9.0, 14.0]), np.array([9.0, 12.0, 10.0, 10.0])
    difference = np.array([1.0, 0.0, -1.0, 4.0])
    spread = difference.std(ddof=1)
    once = np.ones((1, 4))
    found = [float(LIMITS[name](np.column_stack([a, b]), once)[0]) for name in ("bias", "limit_low", "limit_high")]
    assert found == pytest.approx([1.0, 1 - 1.959964 * spread, 1 + 1.959964 * spread], abs=1e-5)
    shift = bias(a, b)
    assert (shift.value, shift.n) == (pytest.approx(1.0), 4)
    assert (shift.low, shift.high) == pytest.approx(stats.ttest_1samp(difference, 0).confidence_interval(0.95))


def test_the_weighted_limits_are_those_of_the_repeated_cases():
    values = np.random.default_rng(4).gamma(2.0, 3.0, (9, 2)) + 100
    weights = np.random.default_rng(5).multinomial(9, [1 / 9] * 9, size=20).astype(float)
    repeated = [np.repeat(values, row.astype(int), axis=0) for row in weights]
    plain = np.array([limits(*rows.T) for rows in repeated])
    ratio = np.array([limits(*rows.T, log=True) for rows in repeated])
    for column, metric in enumerate(("bias", "limit_low", "limit_high")):
        np.testing.assert_allclose(LIMITS[metric](values, weights), plain[:, column], rtol=1e-6)
        np.testing.assert_allclose(as_ratio(LIMITS[metric])(values, weights), ratio[:, column], rtol=1e-6)


def stated(values, change=lambda statistic: statistic):
    once = np.ones((1, len(values)))
    return [float(change(LIMITS[name])(values, once)[0]) for name in ("bias", "limit_low", "limit_high")]


def test_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(0)
    true = rng.uniform(5, 50, 4000)
    found = stated(np.column_stack([true + rng.normal(0.5, 2, 4000), true]))
    assert found == pytest.approx([0.5, 0.5 - 3.92, 0.5 + 3.92], abs=0.15)


def test_on_the_log_scale_a_ratio_comes_back():
    rng = np.random.default_rng(1)
    true = rng.lognormal(1, 1, 3000)
    scaled = true * np.exp(rng.normal(np.log(1.2), 0.1, 3000))
    found = stated(np.column_stack([scaled, true]), as_ratio)
    assert found == pytest.approx([1.2, 1.2 * np.exp(-0.196), 1.2 * np.exp(0.196)], rel=0.01)
    shift = bias(scaled, true, log=True)
    assert shift.value == pytest.approx(found[0])
    assert shift.low < shift.value < shift.high
    expected = stats.ttest_1samp(np.log(scaled / true), 0).confidence_interval(0.95)
    assert (shift.low, shift.high) == pytest.approx(np.exp(expected))
    with pytest.raises(ValueError, match="positive"):
        bias([1.0, 2.0, 0.0], [1.0, 2.0, 3.0], log=True)


def test_growing_spread_is_noticed_and_even_spread_is_not():
    rng = np.random.default_rng(2)
    true = rng.lognormal(1, 1, 60)
    assert spread_grows(true * np.exp(rng.normal(0, 0.3, 60)), true)
    alarms = sum(spread_grows(size + rng.normal(0, 1, 60), size) for size in rng.uniform(5, 50, (200, 60)))
    assert alarms / 200 < 0.11  # the test's level is 0.05
    assert not spread_grows(true, true)
    few = np.array([1.0, 2.0, 5.0])
    assert not spread_grows(few * [1.1, 0.7, 1.9], few)  # in order, and too few to say


def test_too_few_or_unpaired_measurements_are_refused():
    with pytest.raises(ValueError, match="at least 3 pairs"):
        bias([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least 3 pairs"):
        spread_grows([1.0, 2.0, 3.0], [1.0, 2.0])
