"""Wilson's interval and the patient bootstrap against scipy, and the coverage they promise."""

import numpy as np
import pytest
from scipy import stats

from shared.metrics.intervals import bootstrap_patients, weighted_mean, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 8), (8, 8), (3, 8), (17, 40), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(k, n, confidence):
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_what_is_no_proportion_is_refused(k, n):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(k, n)


def names(n):
    return [f"p{index:03d}" for index in range(n)]


def test_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).beta(8, 2, 40)
    found = bootstrap_patients(values, names(40), n=20_000, seed=1)
    peer = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    # Two Monte Carlo runs of one distribution: within a few of their standard errors (about 0.0004 here).
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.002)


def test_covers_a_normal_mean_as_often_as_it_says():
    rng = np.random.default_rng(11)
    hits = 0
    for repeat in range(300):
        found = bootstrap_patients(rng.normal(2.0, 1.0, 50), names(50), n=500, seed=repeat)
        hits += found.low <= 2.0 <= found.high
    # 95% less the percentile bootstrap's known shortfall at n = 50 (about one point), within 3 standard errors.
    assert 0.90 <= hits / 300 <= 0.98


def test_patients_not_cases_are_drawn():
    rng = np.random.default_rng(0)
    patient_level = rng.normal(size=30)
    twice = np.repeat(patient_level, 2)  # both breasts of a patient say the same: no new information
    doubled = bootstrap_patients(twice, [name for name in names(30) for _ in range(2)], n=4000, seed=7)
    single = bootstrap_patients(patient_level, names(30), n=4000, seed=7)
    assert (doubled.low, doubled.high) == pytest.approx((single.low, single.high))
    assert (doubled.n, doubled.patients) == (60, 30)


def test_every_centre_keeps_its_number_of_patients():
    values = np.r_[np.zeros(10), np.ones(30)]
    strata = ["a"] * 10 + ["b"] * 30
    stratified = bootstrap_patients(values, names(40), n=2000, seed=0, strata=strata)
    assert stratified.low == stratified.high == stratified.value == 0.75
    assert bootstrap_patients(values, names(40), n=2000, seed=0).low < 0.7


def test_the_same_seed_gives_the_same_digits_whatever_the_order_of_the_cases():
    values = np.random.default_rng(2).uniform(size=25)
    first = bootstrap_patients(values, names(25), n=2000, seed=9)
    assert bootstrap_patients(values, names(25), n=2000, seed=9) == first
    order = np.random.default_rng(1).permutation(25)
    shuffled = bootstrap_patients(values[order], [names(25)[i] for i in order], n=2000, seed=9)
    assert (shuffled.low, shuffled.high) == pytest.approx((first.low, first.high), abs=1e-12)
    assert bootstrap_patients(values, names(25), n=2000, seed=10) != first


def test_a_statistic_of_several_columns_equals_the_explicit_resamples():
    counts = np.array([[3.0, 4.0], [0.0, 2.0], [5.0, 5.0], [1.0, 8.0]])

    def ratio(values, weights):
        return (weights @ values[:, 0]) / (weights @ values[:, 1])

    weights = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=6).astype(float)
    slow = [
        np.repeat(counts, row.astype(int), axis=0)[:, 0].sum() / np.repeat(counts, row.astype(int), axis=0)[:, 1].sum()
        for row in weights
    ]
    np.testing.assert_allclose(ratio(counts, weights), slow)
    np.testing.assert_allclose(
        weighted_mean(counts, weights), [np.repeat(counts[:, 0], row.astype(int)).mean() for row in weights]
    )
    assert bootstrap_patients(counts, names(4), ratio, n=2000, seed=0).value == pytest.approx(9 / 19)


def test_no_case_one_patient_or_an_undefined_statistic_give_no_interval():
    nothing = bootstrap_patients([], [], n=200, seed=0)
    assert (nothing.value, nothing.low, nothing.n) == (None, None, 0)
    one = bootstrap_patients([0.4, 0.6], ["p", "p"], n=200, seed=0)
    assert (one.value, one.low, one.high, one.patients) == (0.5, None, None, 1)
    undefined = bootstrap_patients([0.4, 0.6], ["p", "q"], lambda _, w: np.full(len(w), np.nan), n=200, seed=0)
    assert (undefined.value, undefined.low) == (None, None)


def test_tables_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="not one table"):
        bootstrap_patients([1.0, 2.0], ["p"], n=200, seed=0)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_patients([1.0, np.nan], ["p", "q"], n=200, seed=0)
    with pytest.raises(ValueError, match="two strata"):
        bootstrap_patients([1.0, 2.0], ["p", "p"], n=200, seed=0, strata=["a", "b"])
