"""Numbers against their references: the metrics against Bland and Altman's and the correlation called directly."""

import math

import numpy as np
import pandas as pd
import pytest

from shared.metrics.agreement import icc
from shared.metrics.paired_numbers import (
    NumberPair,
    agreement_metrics,
    differences,
    error_metrics,
    is_spread_with_size,
    ratio_metrics,
)
from tests.shared.metrics.exact_agreement import limits

PAIR = NumberPair("{}_ki67", "Ki-67", "%", ("score_ki67", "truth_ki67"))
TRUTH, SCORE = np.array([5.0, 10.0, 20.0, 45.0]), np.array([10.0, 10.0, 30.0, 30.0])
METRICS = {item.name: item for make in (error_metrics, agreement_metrics, ratio_metrics) for item in make(PAIR)}


def value(name, score=SCORE, truth=TRUTH):
    values = METRICS[name].values(pd.DataFrame({"score_ki67": score, "truth_ki67": truth}))
    values = values[np.isfinite(values).all(axis=1)]
    return float(METRICS[name].statistic(values, np.ones((1, len(values))))[0])


def test_errors_by_hand_with_the_floor():
    assert value("mae_ki67") == (5 + 0 + 10 + 15) / 4
    assert value("mae_ki67_of_mean") == (15 + 10 + 0 + 25) / 4
    assert value("bias_ki67") == 0.0
    # The floor is that of the same cases: one without an answer is in neither.
    assert value("mae_ki67_of_mean", [10.0, math.nan, 30.0, 30.0]) == pytest.approx((55 / 3 + 10 / 3 + 65 / 3) / 3)


def test_limits_and_correlation_are_those_called_directly():
    found = [value(name) for name in ("bias_ki67", "limit_low_ki67", "limit_high_ki67")]
    assert found == pytest.approx(limits(SCORE, TRUTH))
    assert value("icc_a1_ki67") == pytest.approx(icc(np.column_stack([SCORE, TRUTH])).value)


def test_ratios_are_those_of_the_logarithms_and_zeros_have_none():
    rng = np.random.default_rng(0)
    truth = rng.lognormal(1, 1, 40)
    score = truth * np.exp(rng.normal(0.1, 0.3, 40))
    found = [value(f"ratio_{name}_ki67", [*score, 0.0], [*truth, 3.0]) for name in ("bias", "limit_low", "limit_high")]
    assert found == pytest.approx(limits(score, truth, log=True))


def test_ratios_apply_where_the_spread_grows_with_size_alone():
    rng = np.random.default_rng(0)
    truth = rng.lognormal(1, 1, 40)
    grown = np.column_stack([truth * np.exp(rng.normal(0.1, 0.3, 40)), truth])
    even = np.column_stack([truth + rng.normal(0, 0.3, 40) + 3, truth + 3])
    assert is_spread_with_size(grown)
    assert not is_spread_with_size(even)
    assert not is_spread_with_size(grown[:2])
    assert METRICS["ratio_bias_ki67"].applies(grown)
    assert not METRICS["ratio_bias_ki67"].applies(even)
    assert METRICS["bias_ki67"].applies(even)


def test_differences_are_predicted_minus_reference():
    assert differences(np.array([[3.0, 1.0], [1.0, math.nan]])).tolist()[0] == [2.0]


def test_names_units_and_signs():
    volume = {item.name: item for item in agreement_metrics(NumberPair("volume_{}", "volume", "ml", ("a", "b")))}
    assert set(volume) == {"volume_icc_a1", "volume_bias", "volume_limit_low", "volume_limit_high"}
    assert {volume[name].unit for name in volume} == {"1", "ml"}
    assert all(item.signed for item in volume.values())
    assert not METRICS["mae_ki67"].signed
    assert METRICS["mae_ki67"].unit == METRICS["mae_ki67_of_mean"].unit == "%"
    assert METRICS["ratio_bias_ki67"].unit == "1"
