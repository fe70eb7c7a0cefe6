"""Thresholds by trying them all, counts by hand, McNemar against R."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.operating_point import Counts, count, mcnemar, youden_threshold

TRUTH = [0] * 12 + [1] * 8
SCORE = [0.1, 0.2, 0.2, 0.3, 0.35, 0.4, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.3, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9]


def test_the_cut_is_proc_s():
    assert youden_threshold(TRUTH, SCORE) == pytest.approx(0.575)


def test_counts_and_shares_by_hand():
    found = count(TRUTH, SCORE, 0.575)
    assert found == Counts(tp=6, fp=2, fn=2, tn=10)
    assert found.prevalence == 0.4
    shares = found.estimates()
    assert {name: item.value for name, item in shares.items()} == {
        "sensitivity": 0.75, "specificity": 10 / 12, "ppv": 0.75, "npv": 10 / 12,
    }  # fmt: skip
    # Wilson's interval of 6 of 8 by R's prop.test without correction.
    assert (shares["sensitivity"].low, shares["sensitivity"].high) == pytest.approx((0.409269, 0.928521), abs=1e-5)
    assert found + found == Counts(12, 4, 4, 20)


def test_nothing_called_has_no_predictive_value():
    shares = Counts(tp=0, fp=0, fn=3, tn=4).estimates()
    assert shares["ppv"].value is None
    assert shares["sensitivity"].value == 0.0
    assert Counts(0, 0, 0, 0).prevalence is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=25))
def test_no_cut_is_better(cases):
    truth, score = np.array([t for t, _ in cases]), np.array([float(s) for _, s in cases])
    cut = youden_threshold(truth, score)
    if truth.all() or not truth.any():
        assert cut is None
        return

    def gain(threshold):
        found = count(truth, score, threshold)
        return found.tp / truth.sum() + found.tn / (~truth).sum() - 1

    assert gain(cut) == pytest.approx(max(gain(other) for other in np.arange(-0.25, 7.0, 0.5)))


def test_mcnemar_is_that_of_r():
    found = mcnemar(86, 150)
    assert (found.statistic, found.p) == pytest.approx((16.8177966102, 4.11456228e-05), rel=1e-8)
    assert found.exact_p == pytest.approx(3.71593614e-05, rel=1e-8)
    assert mcnemar(150, 86) == found
    assert mcnemar(0, 0).p == 1.0
    assert mcnemar(1, 0).statistic == 0.0
