"""ICC against R's psych, Bland-Altman against hand calculation and simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from shared.metrics.agreement import LIMITS, as_ratio, bland_altman, icc, icc_a1, spread_grows

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["icc"]


def test_icc_is_that_of_psych():
    found = icc(GOLDEN["ratings"])
    assert found.a1 == pytest.approx(GOLDEN["a1"], abs=1e-9)
    assert (found.a1_low, found.a1_high) == pytest.approx(GOLDEN["a1_interval"], abs=5e-3)


def test_the_interval_of_a1_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 4 / (4 + 0.25 + 1)  # subjects, raters, rest
    hits = 0
    for _ in range(400):
        table = rng.normal(0, 2, (30, 1)) + rng.normal(0, 0.5, (1, 4)) + rng.normal(0, 1, (30, 4))
        found = icc(table)
        hits += found.a1_low <= truth <= found.a1_high
    assert 0.915 <= hits / 400 <= 0.985


def test_the_weighted_statistic_is_icc_of_the_repeated_cases():
    values = np.random.default_rng(4).gamma(2.0, 3.0, (9, 2)) + 100
    weights = np.random.default_rng(5).multinomial(9, [1 / 9] * 9, size=20).astype(float)
    slow = [icc(np.repeat(values, row.astype(int), axis=0)).a1 for row in weights]
    np.testing.assert_allclose(icc_a1(values, weights), slow, rtol=1e-9)


def test_absolute_agreement_sees_a_constant_offset():
    size = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = icc(np.column_stack([size, size + 5]))
    assert found.a1 < 0.9
    perfect = icc(np.column_stack([size, size]))
    assert (perfect.a1, perfect.a1_low, perfect.a1_high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("ratings", [[[1, 2]], [[1], [2]], [[1, 2], [3, np.nan]], [1, 2, 3], [[2, 2], [2, 2]]])
def test_ratings_without_a_correlation_are_refused(ratings):
    with pytest.raises(ValueError, match=r"ratings"):
        icc(ratings)


def test_bland_altman_by_hand():
    a, b = np.array([10.0, 12.0, 9.0, 14.0]), np.array([9.0, 12.0, 10.0, 10.0])
    difference = np.array([1.0, 0.0, -1.0, 4.0])
    spread = difference.std(ddof=1)
    found = bland_altman(a, b)
    assert found.bias == pytest.approx(1.0)
    assert (found.low, found.high) == pytest.approx((1 - 1.959964 * spread, 1 + 1.959964 * spread), abs=1e-5)
    assert found.bias_interval == pytest.approx(stats.ttest_1samp(difference, 0).confidence_interval(0.95))
    # Bland and Altman 1999: the variance of a limit is s^2 (1/n + z^2 / (2 (n - 1))).
    half = stats.t.ppf(0.975, 3) * spread * np.sqrt(1 / 4 + 1.959964**2 / 6)
    assert found.high_interval == pytest.approx((found.high - half, found.high + half), abs=1e-5)
    assert (found.n, found.log) == (4, False)


def test_the_weighted_limits_are_those_of_the_repeated_cases():
    values = np.random.default_rng(4).gamma(2.0, 3.0, (9, 2)) + 100
    weights = np.random.default_rng(5).multinomial(9, [1 / 9] * 9, size=20).astype(float)
    repeated = [np.repeat(values, row.astype(int), axis=0) for row in weights]
    plain = [bland_altman(*rows.T) for rows in repeated]
    ratio = [bland_altman(*rows.T, log=True) for rows in repeated]
    for metric, field in (("bias", "bias"), ("limit_low", "low"), ("limit_high", "high")):
        np.testing.assert_allclose(LIMITS[metric](values, weights), [getattr(item, field) for item in plain])
        np.testing.assert_allclose(as_ratio(LIMITS[metric])(values, weights), [getattr(item, field) for item in ratio])


def test_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(0)
    true = rng.uniform(5, 50, 4000)
    found = bland_altman(true + rng.normal(0.5, 2, 4000), true)
    assert (found.bias, found.low, found.high) == pytest.approx((0.5, 0.5 - 3.92, 0.5 + 3.92), abs=0.15)


def test_on_the_log_scale_a_ratio_comes_back():
    rng = np.random.default_rng(1)
    true = rng.lognormal(1, 1, 3000)
    found = bland_altman(true * np.exp(rng.normal(np.log(1.2), 0.1, 3000)), true, log=True)
    assert found.log
    expected = (1.2, 1.2 * np.exp(-0.196), 1.2 * np.exp(0.196))
    assert (found.bias, found.low, found.high) == pytest.approx(expected, rel=0.01)
    assert found.bias_interval[0] < found.bias < found.bias_interval[1]
    with pytest.raises(ValueError, match="positive"):
        bland_altman([1.0, 2.0, 0.0], [1.0, 2.0, 3.0], log=True)


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
        bland_altman([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least 3 pairs"):
        spread_grows([1.0, 2.0, 3.0], [1.0, 2.0])
