"""DeLong against R's pROC (golden values), the AUC against counting pairs, the interval against simulation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared.metrics.intervals import bootstrap_patients
from shared.metrics.roc import delong, delong_test, weighted_auc

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["delong"]


def by_counting(truth, score):
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, t in zip(score, truth, strict=True)
        if t
        for b, u in zip(score, truth, strict=True)
        if not u
    ]
    return sum(pairs) / len(pairs)


def test_areas_intervals_and_test_are_those_of_proc():
    for name in ("a", "b"):
        found = delong(GOLDEN["truth"], GOLDEN[name])
        assert (found.value, found.low, found.high) == pytest.approx(GOLDEN[f"auc_{name}"], abs=1e-6)
    paired = delong_test(GOLDEN["truth"], GOLDEN["a"], GOLDEN["b"])
    assert (paired.z, paired.p) == pytest.approx(GOLDEN["test"], abs=1e-6)
    assert paired.difference == pytest.approx(0.84375 - 0.7291667, abs=1e-6)


def test_the_better_score_has_a_positive_z_whichever_way_round():
    first, second = (delong_test(GOLDEN["truth"], GOLDEN[a], GOLDEN[b]) for a, b in ("ab", "ba"))
    assert first.z == -second.z > 0
    assert first.p == second.p
    assert (first.low, first.high) == pytest.approx((-second.high, -second.low))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(cases):
    truth, score = [int(t) for t, _ in cases], [float(s) for _, s in cases]
    found = delong(truth, score)
    if len(set(truth)) == 1:
        assert found.value is None
        assert found.low is None
        return
    assert found.value == pytest.approx(by_counting(truth, score))
    # Only the order of the scores counts.
    assert delong(truth, [math.exp(s) for s in score]).value == pytest.approx(found.value)
    one_row = np.ones((1, len(cases)))
    assert weighted_auc(np.column_stack([truth, score]), one_row)[0] == pytest.approx(found.value)


def test_a_weight_of_two_is_the_case_twice():
    rng = np.random.default_rng(1)
    values = np.column_stack([rng.random(12) < 0.5, rng.integers(0, 6, 12)]).astype(float)
    weights = rng.multinomial(12, [1 / 12] * 12, size=20).astype(float)
    for row, found in zip(weights, weighted_auc(values, weights), strict=True):
        again = np.repeat(values, row.astype(int), axis=0)
        if len(set(again[:, 0])) == 1:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(by_counting(again[:, 0], again[:, 1]))


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    true = stats.norm.cdf(1 / math.sqrt(2))
    truth = np.repeat([0, 1], [60, 40])
    hits = 0
    for _ in range(500):
        found = delong(truth, rng.normal(truth, 1.0))
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / 500 <= 0.98


def test_two_breasts_of_a_patient_widen_the_bootstrap_and_not_delong():
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(60) < 0.5, 2).astype(float)
    score = np.repeat(rng.normal(0, 1, 60), 2) + truth
    patients = [f"p{index // 2}" for index in range(120)]
    drawn = bootstrap_patients(np.column_stack([truth, score]), patients, weighted_auc, n=2000, seed=0)
    twice = delong(truth, score)
    assert drawn.value == pytest.approx(twice.value)
    assert (drawn.high - drawn.low) > 1.25 * (twice.high - twice.low)


def test_a_single_positive_has_an_area_and_no_interval():
    found = delong([0, 0, 1], [0.1, 0.4, 0.3])
    assert (found.value, found.low, found.high, found.n) == (0.5, None, None, 3)
    assert delong_test([0, 0, 1], [0.1, 0.4, 0.3], [1, 2, 3]) is None


def test_scores_in_the_same_order_do_not_differ():
    paired = delong_test(GOLDEN["truth"], GOLDEN["a"], np.exp(GOLDEN["a"]))
    assert (paired.difference, paired.z, paired.p) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("truth", "score", "words"),
    [([0, 1], [1.0], "one value per case"), ([0, 2], [1.0, 2.0], "0 or 1"), ([0, 1], [1.0, float("nan")], "not finite")],
)
def test_what_is_no_score_is_refused(truth, score, words):
    with pytest.raises(ValueError, match=words):
        delong(truth, score)
