"""Counts and shares by hand, Wilson's interval against R."""

import pytest

from shared.metrics.operating_point import Counts, count

TRUTH = [0] * 12 + [1] * 8
SCORE = [0.1, 0.2, 0.2, 0.3, 0.35, 0.4, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.3, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9]


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
