"""Calibration against the golden values, scikit-learn's own fit and probabilities known to be right."""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from shared.metrics.calibration import calibration

TRUTH = [0, 0, 0, 1, 0, 1, 1, 0, 1, 1]
LEVELS = np.arange(0.05, 1.0, 0.1)


def test_brier_and_calibration_error_of_ten_cases():
    found = calibration(TRUTH, LEVELS, bins=5)
    assert found.brier == pytest.approx(0.1625)
    assert found.ece == pytest.approx(0.12)
    assert calibration(TRUTH, LEVELS, bins=10).ece == pytest.approx(0.33)
    assert found.slope is None


def simulated(stretch, shift, n=4000):
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, n)
    return (rng.random(n) < special.expit(logit)).astype(int), special.expit(stretch * logit + shift)


def test_right_probabilities_have_slope_one_and_intercept_nought():
    found = calibration(*simulated(1.0, 0.0))
    assert found.slope == pytest.approx(1.0, abs=0.1)
    assert found.intercept == pytest.approx(0.0, abs=0.1)
    assert found.ece < 0.03


@pytest.mark.parametrize(("stretch", "shift", "slope"), [(2.0, 0.0, 0.5), (0.5, 0.0, 2.0), (1.0, 1.0, 1.0)])
def test_too_extreme_too_timid_and_too_high(stretch, shift, slope):
    found = calibration(*simulated(stretch, shift))
    assert found.slope == pytest.approx(slope, abs=0.2)
    assert (found.intercept < -0.8) == (shift == 1.0)


def test_slope_is_that_of_an_unpenalised_logistic_regression():
    truth, probability = simulated(1.4, -0.3, n=300)
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(special.logit(probability)[:, None], truth)
    found = calibration(truth, probability)
    assert found.slope == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    assert found.brier == pytest.approx(brier_score_loss(truth, probability))
    shifted = special.expit(special.logit(probability) + found.intercept)
    assert shifted.mean() == pytest.approx(truth.mean(), abs=1e-9)


def test_classes_that_lie_apart_have_no_slope():
    found = calibration([0] * 12 + [1] * 12, [0.1] * 12 + [0.9] * 12)
    assert found.slope is None
    assert found.intercept == pytest.approx(0.0, abs=1e-9)
    assert calibration([0, 1] * 12, [0.5] * 24).slope is None
    # Apart but for ties on one value: the slope would grow without end too.
    assert calibration([0] * 12 + [1] * 12, [0.1] * 11 + [0.5] + [0.5] + [0.9] * 11).slope is None


def newton(truth, logit, steps=50):
    """Intercept and slope by Newton's method on the log-likelihood, written out."""
    terms = np.column_stack([np.ones_like(logit), logit])
    beta = np.zeros(2)
    for _ in range(steps):
        mean = special.expit(terms @ beta)
        weight = mean * (1 - mean)
        beta = beta + np.linalg.solve(terms.T @ (weight[:, None] * terms), terms.T @ (truth - mean))
    return beta


@pytest.mark.parametrize(("stretch", "shift", "n"), [(1.4, -0.3, 300), (0.4, 1.0, 60), (3.0, 0.0, 2000)])
def test_slope_and_intercept_to_nine_digits(stretch, shift, n):
    truth, probability = simulated(stretch, shift, n)
    found, logit = calibration(truth, probability), special.logit(np.clip(probability, 1e-6, 1 - 1e-6))
    assert found.slope == pytest.approx(newton(truth, logit)[1], abs=1e-9)
    root = optimize.brentq(lambda move: np.sum(special.expit(logit + move) - truth), -40, 40, xtol=1e-13)
    assert found.intercept == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "probability"), [([], []), ([0, 1], [0.5]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.5, 1.1])]
)
def test_what_is_no_probability_is_refused(truth, probability):
    with pytest.raises(ValueError, match=r"one value per case|from 0 to 1"):
        calibration(truth, probability)
