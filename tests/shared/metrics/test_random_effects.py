"""The random-effects mean against R's metafor, hand calculation, statsmodels and a scan of the likelihood."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats
from scipy.special import expit
from statsmodels.stats.meta_analysis import combine_effects

from shared.metrics.random_effects import random_effects, random_effects_of_auc

# Tuberculosis with and without BCG, 13 trials (Colditz 1994, JAMA 271:698; metafor's dat.bcg).
TPOS = np.array([4, 6, 3, 62, 33, 180, 8, 505, 29, 17, 186, 5, 27])
TNEG = np.array([119, 300, 228, 13536, 5036, 1361, 2537, 87886, 7470, 1699, 50448, 2493, 16886])
CPOS = np.array([11, 29, 11, 248, 47, 372, 10, 499, 45, 65, 141, 3, 29])
CNEG = np.array([128, 274, 209, 12619, 5761, 1079, 619, 87892, 7232, 1600, 27197, 2338, 17825])
BCG = np.log(TPOS / (TPOS + TNEG)) - np.log(CPOS / (CPOS + CNEG))
BCG_ERRORS = np.sqrt(1 / TPOS - 1 / (TPOS + TNEG) + 1 / CPOS - 1 / (CPOS + CNEG))

# Both likelihoods have a top at tau2 = 0 and another above it; in the first the upper one is higher, in the second not.
UPPER_TOP = ([0.0, -7.6, -0.1], [0.08, 2.51, 0.36])
LOWER_TOP = ([0.0, 6.6, -0.1], [0.06, 2.4, 0.09])

ESTIMATE = st.floats(-20, 20).map(lambda value: round(value, 3))
ERROR = st.floats(0.02, 5).map(lambda value: round(value, 3))
CENTRES = st.lists(st.tuples(ESTIMATE, ERROR), min_size=2, max_size=8)


def likelihood(tau2, values, errors):
    """Return the restricted log-likelihood: the normal density of the contrasts, which do not know the mean."""
    values, errors = np.asarray(values), np.asarray(errors)
    contrasts = linalg.null_space(np.ones((1, len(values)))).T
    covariance = contrasts @ np.diag(errors**2 + tau2) @ contrasts.T
    seen = contrasts @ values
    return -0.5 * (np.linalg.slogdet(covariance)[1] + seen @ np.linalg.solve(covariance, seen))


def figures(found):
    """Return everything that is measured in the unit of the estimates."""
    bounds = [found.estimate, found.ci_low, found.ci_high]
    return bounds if found.k < 3 else [*bounds, found.pi_low, found.pi_high]


def test_the_figures_of_the_bcg_trials_are_those_of_metafor():
    found = random_effects(BCG, BCG_ERRORS)
    assert found.k == 13
    # metafor stops iterating at steps of 1e-5; its tau2 is 7e-8 from the maximum.
    assert found.estimate == pytest.approx(-0.714532348365, abs=1e-7)
    assert found.tau2 == pytest.approx(0.313243325981, abs=1e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx((-1.108443723, -0.32062097373), abs=1e-7)
    assert found.q == pytest.approx(152.233008082, abs=1e-8)
    assert found.i2 == pytest.approx(92.22, abs=0.005)
    # From metafor's figures: t(11) sqrt(tau2 + se^2), se = 0.180792 from the interval.
    reach = 2.200985 * math.sqrt(0.313243 + 0.180792**2)
    bounds = (found.pi_low, found.pi_high)
    assert bounds == pytest.approx((-0.714532 - reach, -0.714532 + reach), abs=1e-5)


def test_two_centres_by_hand():
    found = random_effects([1.0, 3.0], [0.5, math.sqrt(0.75)])
    # tau2 = ((1 - 3)^2 - 0.25 - 0.75) / 2; weights 1/1.75 and 1/2.25; weighted squares about the mean: exactly 1.
    assert found.tau2 == pytest.approx(1.5)
    assert found.estimate == pytest.approx((2.25 * 1 + 1.75 * 3) / 4)
    assert found.se == pytest.approx(math.sqrt(1.75 * 2.25 / 4))
    assert (found.ci_low, found.ci_high) == pytest.approx((1.875 - 12.706205 * found.se, 1.875 + 12.706205 * found.se))
    # Fixed weights 4 and 4/3: Q = 2^2 / (0.25 + 0.75), typical variance 0.5.
    assert (found.q, found.q_p, found.i2) == pytest.approx((4.0, 2 * stats.norm.sf(2.0), 75.0))
    assert found.k == 2
    assert np.isnan([found.pi_low, found.pi_high]).all()


# Student's t with 2 and with 1 degrees of freedom.
@pytest.mark.parametrize(("confidence", "t", "t1"), [(0.95, 4.302653, 12.706205), (0.9, 2.919986, 6.313752)])
def test_three_equally_large_centres_by_hand(confidence, t, t1):
    found = random_effects([0.0, 3.0, 6.0], [1.0, 1.0, 1.0], confidence)
    # The variance of the estimates is 9, of which 1 lies within.
    assert (found.tau2, found.i2, found.q, found.q_p) == pytest.approx((8.0, 100 * 8 / 9, 18.0, math.exp(-9.0)))
    assert found.se == pytest.approx(math.sqrt(3))
    near, far = t * math.sqrt(3), t1 * math.sqrt(8 + 3)
    assert figures(found) == pytest.approx([3.0, 3 - near, 3 + near, 3 - far, 3 + far])


def test_centres_that_agree_better_than_their_errors_are_no_surer_than_a_fixed_mean():
    found = random_effects([0.0, 0.1, 0.2], [1.0, 1.0, 1.0])
    assert (found.tau2, found.i2) == (0.0, 0.0)
    # The plain variance would make this 0.1 / sqrt(3).
    assert found.se == pytest.approx(1 / math.sqrt(3))
    assert found.ci_high == pytest.approx(0.1 + 4.302653 / math.sqrt(3))
    assert found.pi_high == pytest.approx(0.1 + 12.706205 / math.sqrt(3))
    assert found.q_p == pytest.approx(math.exp(-0.01))


@pytest.mark.parametrize("errors", [[1.0, 1.0], [0.1, 2.0], [0.01, 1.0, 100.0], [0.3, 0.3, 0.3, 1e-6]])
def test_equal_estimates_are_their_own_mean_whatever_their_errors(errors):
    found = random_effects([0.7] * len(errors), errors)
    assert found.estimate == pytest.approx(0.7, abs=1e-12)
    assert found.se == pytest.approx(1 / math.sqrt(sum(error**-2 for error in errors)))
    assert (found.tau2, found.i2, found.q, found.q_p) == (0.0, 0.0, 0.0, 1.0)


@given(CENTRES)
def test_at_its_tau2_the_mean_and_interval_are_those_of_statsmodels(centres):
    values, errors = np.array(centres).T
    found = random_effects(values, errors)
    # With tau2 added to the variances, statsmodels' fixed effect with an estimated scale is Hartung-Knapp. Its own
    # random effects, which are not looked at, may warn of a negative tau2.
    with np.errstate(all="ignore"):
        oracle = combine_effects(values, errors**2 + found.tau2, method_re="dl", use_t=True)
        fixed = combine_effects(values, errors**2, method_re="dl")
        bounds = oracle.conf_int()[2]
    # Where the centres agree better than that, the interval is that of the fixed weights.
    least = stats.t.ppf(0.975, len(values) - 1) / math.sqrt((1 / (errors**2 + found.tau2)).sum())
    reach = max((bounds[1] - bounds[0]) / 2, least)
    assert found.estimate == pytest.approx(oracle.mean_effect_fe, abs=1e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx((found.estimate - reach, found.estimate + reach), abs=1e-6)
    assert found.q == pytest.approx(fixed.q, abs=1e-6)
    assert found.q_p == pytest.approx(fixed.test_homogeneity().pvalue, abs=1e-3)


def test_the_fixed_mean_of_the_bcg_trials_is_that_of_metafor_and_of_statsmodels():
    # Errors so large that nothing is left between centres make the random mean the fixed one.
    found = random_effects(BCG, BCG_ERRORS * 100)
    assert found.estimate == pytest.approx(-0.430285163654, abs=1e-10)
    assert found.estimate == pytest.approx(combine_effects(BCG, BCG_ERRORS**2).mean_effect_fe)
    assert found.q == pytest.approx(152.233008082 / 100**2)


@given(st.lists(ESTIMATE, min_size=3, max_size=8, unique=True), st.floats(0.01, 0.9))
def test_at_equal_errors_reml_is_dersimonian_laird(values, share):
    error = share * np.std(values, ddof=1)
    found = random_effects(values, np.full(len(values), error))
    oracle = combine_effects(np.array(values), np.full(len(values), error**2), method_re="dl", use_t=True)
    assert found.tau2 == pytest.approx(oracle.tau2, rel=1e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(oracle.conf_int()[3]), rel=1e-6, abs=1e-9)
    assert found.i2 == pytest.approx(100 * oracle.i2, rel=1e-6)


@pytest.mark.parametrize(("values", "errors"), [(BCG, BCG_ERRORS), UPPER_TOP, LOWER_TOP, ([0.0, 1.0], [0.1, 0.9])])
def test_tau2_is_the_highest_point_of_a_scan_of_the_restricted_likelihood(values, errors):
    scan = np.concatenate([[0.0], np.geomspace(1e-4, 1e3, 4000)])
    heights = [likelihood(tau2, values, errors) for tau2 in scan]
    found = random_effects(values, errors)
    assert found.tau2 == pytest.approx(scan[np.argmax(heights)], rel=0.005)
    assert likelihood(found.tau2, values, errors) >= max(heights)


@pytest.mark.parametrize(("centres", "low", "up", "taken"), [(UPPER_TOP, 1.0, 12.0, 12.0), (LOWER_TOP, 1.0, 8.2, 0)])
def test_of_two_tops_the_higher_one_is_taken(centres, low, up, taken):
    places = (0.0, 1e-3, low, 0.9 * up, up, 1.1 * up)
    zero, beside, valley, below, top, above = (likelihood(tau2, *centres) for tau2 in places)
    assert zero > beside > valley < below < top > above
    assert random_effects(*centres).tau2 == pytest.approx(taken, rel=0.005)


@given(CENTRES, st.floats(0, 500))
def test_no_other_tau2_is_likelier(centres, tau2):
    values, errors = np.array(centres).T
    best = likelihood(random_effects(values, errors).tau2, values, errors)
    assert likelihood(tau2, values, errors) <= best + 1e-6 * max(1.0, abs(best))


@given(CENTRES, st.randoms(use_true_random=False))
def test_the_order_of_the_centres_does_not_count(centres, random):
    mixed = random.sample(centres, len(centres))
    once, again = (random_effects(*np.array(given).T) for given in (centres, mixed))
    assert figures(again) == pytest.approx(figures(once), abs=1e-6)
    assert (again.tau2, again.i2, again.q) == pytest.approx((once.tau2, once.i2, once.q), abs=1e-6)


@given(CENTRES, st.floats(-1000, 1000), st.sampled_from([-1.0, 0.001, 7.0, 1000.0]))
def test_a_shift_moves_the_bounds_alone_and_another_unit_squares_into_tau2(centres, by, unit):
    values, errors = np.array(centres).T
    once, again = random_effects(values, errors), random_effects((values + by) * unit, errors * abs(unit))
    assert sorted(figures(again)) == pytest.approx(sorted((f + by) * unit for f in figures(once)), abs=1e-5 * abs(unit))
    assert again.se == pytest.approx(once.se * abs(unit), abs=1e-5 * abs(unit))
    assert again.tau2 == pytest.approx(once.tau2 * unit**2, rel=1e-5, abs=1e-6 * unit**2)
    assert (again.i2, again.q, again.q_p) == pytest.approx((once.i2, once.q, once.q_p), abs=1e-4)


@given(CENTRES)
def test_the_mean_lies_among_the_estimates_and_the_prediction_contains_its_interval(centres):
    values, errors = np.array(centres).T
    found = random_effects(values, errors)
    assert min(values) - 1e-9 <= found.estimate <= max(values) + 1e-9
    assert found.tau2 >= 0
    assert 0 <= found.i2 <= 100
    if found.k > 2:
        assert found.pi_low <= found.ci_low <= found.estimate <= found.ci_high <= found.pi_high


def test_the_interval_of_the_mean_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    errors, hits = np.array([0.2, 0.3, 0.3, 0.5]), 0
    for _ in range(600):
        found = random_effects(2.0 + rng.normal(0, 0.5, 4) + rng.normal(0, errors), errors)
        hits += found.ci_low <= 2.0 <= found.ci_high
    assert 0.93 <= hits / 600 <= 0.985


def test_areas_are_pooled_as_logits_by_hand():
    # Logits 0, 1 and 2 with errors of 0.5: their variance is 1, of which 0.25 lies within.
    areas = expit([0.0, 1.0, 2.0])
    found = random_effects_of_auc(areas, 0.5 * areas * (1 - areas))
    assert (found.tau2, found.se, found.i2) == pytest.approx((0.75, 1 / math.sqrt(3), 75.0))
    reach, further = 4.302653 / math.sqrt(3), 12.706205 * math.sqrt(0.75 + 1 / 3)
    logits = (1, 1 - reach, 1 + reach, 1 - further, 1 + further)
    assert figures(found) == pytest.approx([1 / (1 + math.exp(-at)) for at in logits], abs=1e-7)


@given(st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(0.01, 0.2)), min_size=2, max_size=6))
def test_the_mirror_of_areas_has_the_mirrored_bounds_within_0_and_1(centres):
    areas, errors = np.array(centres).T
    found, mirror = random_effects_of_auc(areas, errors), random_effects_of_auc(1 - areas, errors)
    assert sorted(figures(mirror)) == pytest.approx(sorted(1 - figure for figure in figures(found)), abs=1e-6)
    assert all(0 <= figure <= 1 for figure in figures(found))


def test_two_areas_have_no_prediction_and_one_has_no_mean():
    found = random_effects_of_auc([0.7, 0.8], [0.05, 0.05])
    assert 0.7 < found.estimate < 0.8
    assert np.isnan([found.pi_low, found.pi_high]).all()
    assert random_effects_of_auc([0.7], [0.05]) is None
    assert random_effects([], []) is None
    assert random_effects([0.7], [0.05]) is None


@pytest.mark.parametrize("pool", [random_effects, random_effects_of_auc])
@pytest.mark.parametrize(
    ("estimates", "errors", "words"),
    [
        ([0.5, 0.6], [0.1], r"\(2,\) and standard errors \(1,\)"),
        ([[0.5, 0.6]], [[0.1, 0.1]], "one value per centre"),
        *[([0.5, 0.6], [0.1, error], "error is not finite and positive") for error in (0, -0.1, math.inf, math.nan)],
    ],
)
def test_errors_that_are_none_are_refused(pool, estimates, errors, words):
    with pytest.raises(ValueError, match=words):
        pool(estimates, errors)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.2, -0.1, math.nan, math.inf])
def test_what_is_no_estimate_or_no_area_is_refused(value):
    with pytest.raises(ValueError, match="has no logit"):
        random_effects_of_auc([0.7, value], [0.1, 0.1])
    if not math.isfinite(value):
        with pytest.raises(ValueError, match="estimate is not finite"):
            random_effects([0.7, value], [0.1, 0.1])
