"""Sums of classified cases: a monoid, its AUC against counting pairs, its threshold against trying every edge."""

import json
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.metrics.operating_point import count
from shared.metrics.roc import delong
from shared.metrics.score_sums import BINS, KI67, LABELS, SUBTYPES, ClassificationSums
from tests.shared.metrics.exact_scores import macro_auc, youden_threshold

CASES = st.lists(st.tuples(st.integers(0, 1), st.floats(0.0, 1.0)), min_size=1, max_size=40)
MIXED = st.lists(
    st.dictionaries(st.sampled_from(LABELS), st.tuples(st.integers(0, 1), st.floats(0.0, 1.0)), max_size=4), max_size=8
)


def total(cases):
    return reduce(add, (ClassificationSums.of(case) for case in cases), ClassificationSums())


def of_label(pairs, label="er"):
    return total([(label, truth, score)] for truth, score in pairs)


def of_mixed(cases):
    return total([(label, *pair) for label, pair in case.items()] for case in cases)


@given(CASES)
def test_the_binned_area_is_off_by_half_the_pairs_in_one_bin_at_most(pairs):
    truth, score = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    exact, found = delong(truth, score).value, of_label(pairs).auc("er")
    if exact is None:
        assert found is None
        return
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    together = (place[truth == 1][:, None] == place[truth == 0]).mean()
    assert abs(found - exact) <= together / 2 + 1e-12


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, BINS - 1)), min_size=1, max_size=40))
def test_with_one_score_a_bin_the_area_is_exact(pairs):
    scores = [(index + 0.5) / BINS for _, index in pairs]
    found = of_label([(truth, score) for (truth, _), score in zip(pairs, scores, strict=True)]).auc("er")
    assert found == pytest.approx(delong([truth for truth, _ in pairs], scores).value)


def test_spread_scores_lose_less_than_a_hundredth():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.0, 2.0):
        truth = (rng.random(400) < 0.3).astype(int)
        score = 1 / (1 + np.exp(-rng.normal(shift * truth, 1.0)))
        exact = delong(truth, score).value
        assert of_label(zip(truth.tolist(), score, strict=True)).auc("er") == pytest.approx(exact, abs=0.01)


@settings(max_examples=40)
@given(MIXED, MIXED)
def test_sites_merge_in_any_order_and_zero_adds_nothing(first, second):
    a, b = of_mixed(first), of_mixed(second)
    assert (a + b).to_dict() == pytest.approx((b + a).to_dict())
    assert (a + b).to_dict() == pytest.approx(of_mixed(first + second).to_dict())
    assert a + ClassificationSums() == ClassificationSums() + a == a


@settings(max_examples=40)
@given(MIXED)
def test_sums_travel_as_numbers_under_the_same_names_and_come_back(cases):
    sums = of_mixed(cases) + ClassificationSums.of([(KI67, 20.0, 12.5)])
    flat = json.loads(json.dumps(sums.to_dict()))
    assert list(flat) == list(ClassificationSums().to_dict())
    assert len(flat) == 1 + len(LABELS) * (2 * BINS + 3) + 6
    assert all(isinstance(value, float) for value in flat.values())
    assert ClassificationSums.from_dict(flat) == sums


def test_areas_by_hand():
    # Positives in bins 6 and 10, negatives in 6 and 2: 0.5 + 1 + 1 + 1 of four pairs.
    sums = of_label([(1, 0.31), (1, 0.5), (0, 0.34), (0, 0.1)])
    assert sums.auc("er") == 3.5 / 4
    assert sums.er.positives[6] == sums.er.positives[10] == sums.er.negatives[6] == sums.er.negatives[2] == 1
    assert sums.auc("pr") is None
    assert sums.n == 4


def test_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    sums = of_label([(1, index / BINS) for index in range(BINS + 1)])
    assert sums.er.positives == (1,) * (BINS - 1) + (2,)


def test_sites_of_one_class_each_have_an_area_together_only():
    sick, healthy = of_label([(1, 0.9), (1, 0.4)]), of_label([(0, 0.2), (0, 0.6)])
    assert sick.auc("er") is healthy.auc("er") is sick.threshold("er") is healthy.threshold("er") is None
    assert (sick + healthy).auc("er") == 3 / 4
    assert (sick + healthy).threshold("er") is not None


def test_the_mean_area_is_that_of_the_subtypes_and_undefined_with_one_of_them():
    rng = np.random.default_rng(1)
    truth = rng.choice(SUBTYPES, 60)
    scores = (rng.integers(0, BINS, (60, 4)) + 0.5) / BINS
    cases = [
        [(name, int(name == label), row[index]) for index, name in enumerate(SUBTYPES)]
        for label, row in zip(truth, scores, strict=True)
    ]
    by_class = {name: scores[:, index] for index, name in enumerate(SUBTYPES)}
    assert total(cases).macro_auc() == pytest.approx(macro_auc(truth, by_class))
    without = [case for case, label in zip(cases, truth, strict=True) if label != "luminal_b"]
    assert total(without).auc("luminal_a") is not None
    assert total(without).macro_auc() is None
    # Receptors have no say in it, and a network of two subtypes has a mean over two.
    two = total(case[:2] for case in cases) + of_label([(1, 0.1), (0, 0.9)])
    assert two.macro_auc() == pytest.approx((two.auc("luminal_a") + two.auc("luminal_b")) / 2)
    assert of_label([(1, 0.1), (0, 0.9)]).macro_auc() is None


@given(CASES)
def test_no_edge_is_better_than_the_threshold(pairs):
    truth, score = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    found = of_label(pairs).threshold("er")
    if len(set(truth)) == 1:
        assert found is None
        return
    # What the histogram knows of each score is its bin.
    centre = (np.minimum((score * BINS).astype(int), BINS - 1) + 0.5) / BINS

    def gain(cut):
        table = count(truth, centre, cut)
        return table.tp / (table.tp + table.fn) - table.fp / (table.fp + table.tn)

    assert gain(found) == pytest.approx(max(gain(index / BINS) for index in range(BINS)))
    assert found * BINS == pytest.approx(round(found * BINS))
    # The same calls as the threshold on the scores themselves, were they the bins' middles.
    exact = youden_threshold(truth, centre)
    assert ((centre >= found) == (centre >= exact)).all()


def test_a_threshold_in_a_gap_stands_in_its_middle():
    # Edges 0.2 to 0.8 all part the classes.
    assert of_label([(0, 0.16), (0, 0.19), (1, 0.81), (1, 0.97)]).threshold("er") == 0.5
    # Adjacent bins leave one edge.
    assert of_label([(0, 0.42), (1, 0.46)]).threshold("er") == 0.45
    # A score that orders the cases backwards calls every case 1.
    assert of_label([(1, 0.2), (0, 0.8)]).threshold("er") <= 0.2


def test_the_round_with_the_smaller_mean_loss_over_labels_wins():
    case = [("er", 1, 0.8), ("pr", 0, 0.8), (KI67, 20.0, 35.0)]
    expected = -(-math.log(0.8) - math.log(0.2) + 1.5) / 3
    assert ClassificationSums.of(case).score == pytest.approx(expected)
    # A label counts once, however many cases have it.
    many = total([case, [("er", 1, 0.8)], [("er", 1, 0.8)]])
    assert many.score == pytest.approx(expected)
    assert ClassificationSums.of([("er", 1, 0.9)]).score > ClassificationSums.of([("er", 1, 0.8)]).score
    assert ClassificationSums().score is None


def test_a_certain_error_costs_much_and_not_everything():
    assert ClassificationSums.of([("er", 0, 1.0)]).score == pytest.approx(math.log(1e-6))
    assert ClassificationSums.of([("er", 1, 1.0)]).score == pytest.approx(0.0, abs=1e-5)


def test_ki67_is_signed_and_absolute_in_percentage_points():
    sums = total([[(KI67, 30.0, 20.0)], [(KI67, 10.0, 14.0)]])
    assert (sums.ki67_error.mean, sums.ki67_absolute.mean) == (-3.0, 7.0)
    assert sums.ki67_absolute.deviation == pytest.approx(np.std([10, 4], ddof=1))
    assert sums.score == pytest.approx(-0.7)


def test_a_case_counts_once_whatever_its_labels_and_not_at_all_without():
    sums = total([[("er", 1, 0.5), ("pr", 0, 0.5)], [(KI67, 20.0, 20.0)], []])
    assert (sums.n, sums.er.loss.n, sums.pr.loss.n, sums.ki67_error.n) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ([("tnbc", 1, 0.5)], "'tnbc' is none"),
        ([("er", 1, 0.5), ("er", 1, 0.5)], "given twice"),
        ([(KI67, 1, 0.5), (KI67, 1, 0.5)], "given twice"),
        ([("er", 0.5, 0.5)], "'er' cannot be"),
        ([("er", math.nan, 0.5)], "'er' cannot be"),
        ([("er", 1, 1.01)], "'er' cannot be"),
        ([("er", 1, math.nan)], "'er' cannot be"),
        ([(KI67, 101.0, 50.0)], "'ki67_percent' cannot be"),
        ([(KI67, 50.0, math.inf)], "'ki67_percent' cannot be"),
    ],
)
def test_answers_that_cannot_be_are_refused(case, words):
    with pytest.raises(ValueError, match=words):
        ClassificationSums.of(case)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surplus": 1.0}, "surplus"),
        ({"n": -1.0}, "'n' cannot be"),
        ({"er.positives.03": 0.5}, "'er.positives.03' is a count"),
        ({"er.negatives.03": -1.0}, "'er.negatives.03' cannot be"),
        ({"er.loss.n": 1.5}, "'er.loss.n' is a count"),
        ({"er.loss.total": -9.0}, "'er.loss.total' cannot be"),  # would win every round
        ({"pr.loss.squares": math.inf}, "'pr.loss.squares' is not finite"),
        ({"ki67_error.total": math.nan}, "'ki67_error.total' is not finite"),
        ({"er.positives.03": 1.0}, "different cases"),
        ({"n": 0.0}, "'n' contradicts"),
        ({"n": 9.0}, "'n' contradicts"),
        ({"ki67_error.n": 2.0}, "'n' contradicts"),
    ],
)
def test_sums_that_cannot_be_are_refused(change, words):
    flat = total([[("er", 1, 0.9), (KI67, 30.0, 20.0)], [("pr", 0, 0.4)]]).to_dict()
    assert ClassificationSums.from_dict(flat).ki67_error.total == -10.0  # the one sum that may be negative
    with pytest.raises(ValueError, match=words):
        ClassificationSums.from_dict(flat | change)


def test_a_missing_name_is_refused():
    flat = ClassificationSums().to_dict()
    del flat["her2.loss.total"]
    with pytest.raises(ValueError, match=r"her2\.loss\.total"):
        ClassificationSums.from_dict(flat)
