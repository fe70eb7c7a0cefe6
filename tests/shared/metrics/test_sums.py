"""Sums that merge: a monoid, its means and intervals against numpy and scipy, and what is refused of a site's."""

import json
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared.metrics.sums import BINS, CASES, Histogram, Moments, Sums

KINDS = {CASES: int, "dice": Moments, "bias": Moments, "er": Histogram, "lesions_fn": int}
VALUES = [0.9, 0.4, None, 0.65, 0.0]

NUMBERS = st.floats(-100, 100)
PAIRS = st.tuples(st.integers(0, 1), st.floats(0.0, 1.0))


@st.composite
def some_sums(draw):
    cases = draw(st.lists(st.tuples(NUMBERS, PAIRS, st.integers(0, 3)), max_size=6))
    parts = (
        Sums({CASES: 1, "bias": Moments.of(number), "er": Histogram.of(*pair), "lesions_fn": count})
        for number, pair, count in cases
    )
    return reduce(add, parts, Sums())


def moments(values):
    return reduce(add, map(Moments.of, values), Moments())


@settings(max_examples=60)
@given(some_sums(), some_sums(), some_sums())
def test_sites_merge_in_any_order_and_zero_adds_nothing(a, b, c):
    assert (a + b).to_flat() == pytest.approx((b + a).to_flat())
    assert ((a + b) + c).to_flat() == pytest.approx((a + (b + c)).to_flat())
    assert a + Sums() == Sums() + a == a
    assert (a + Sums.zero(KINDS)).n == a.n


@settings(max_examples=60)
@given(some_sums())
def test_sums_travel_as_numbers_under_the_same_names_and_come_back(sums):
    sent = Sums.zero(KINDS) + sums
    flat = json.loads(json.dumps(sent.to_flat()))
    assert list(flat) == list(Sums.zero(KINDS).to_flat())
    assert len(flat) == 1 + 3 + 3 + 2 * BINS + 1
    assert all(isinstance(value, float) for value in flat.values())
    assert Sums.from_flat(flat, KINDS) == sent


def test_parts_by_name_and_a_part_of_another_kind_is_of_no_case():
    sums = Sums({CASES: 2, "dice": Moments(2, 1.0, 0.6), "er": Histogram.of(1, 0.5)})
    assert (sums.n, sums.count(CASES), sums.count("lesions_fn"), sums.count("dice")) == (2, 2, 0, 0)
    assert (sums.moments("dice").mean, sums.moments("er"), sums.moments("none")) == (0.5, Moments(), Moments())
    assert (sums.histogram("er").n, sums.histogram("dice"), sums.histogram("none")) == (1, Histogram(), Histogram())


def test_means_and_t_intervals_are_those_of_the_cases():
    known = [value for value in VALUES if value is not None]
    found = moments(VALUES)
    assert (found.n, found.mean) == (4, pytest.approx(np.mean(known)))
    assert found.deviation == pytest.approx(np.std(known, ddof=1))
    expected = stats.t.interval(0.9, len(known) - 1, loc=np.mean(known), scale=stats.sem(known))
    assert found.interval(0.9) == pytest.approx(expected)


def test_a_figure_that_does_not_exist_adds_nothing():
    assert Moments.of(None) == Moments.of(math.nan) == Moments()


def test_nothing_gives_no_mean_rather_than_nan():
    assert Moments().mean is Moments().deviation is Moments().interval(0.95) is None
    assert Moments.of(0.5).interval(0.95) is None  # one case has no spread


def test_equal_values_have_no_negative_variance():
    assert moments([0.1 + 0.2] * 7).deviation == pytest.approx(0.0, abs=1e-7)


def test_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    found = reduce(add, [Histogram.of(1, index / BINS) for index in range(BINS + 1)])
    assert found.positives == (1,) * (BINS - 1) + (2,)
    assert (found.n, found.single) == (BINS + 1, True)
    assert not (found + Histogram.of(0, 0.5)).single
    assert (found + Histogram.of(0, 0.5)).negatives[10] == 1


@pytest.mark.parametrize("pair", [(0.5, 0.5), (math.nan, 0.5), (2, 0.5), (1, 1.01), (1, -0.01), (0, math.nan)])
def test_answers_that_cannot_be_are_refused(pair):
    with pytest.raises(ValueError, match="is not one of a binary label"):
        Histogram.of(*pair)


def whole():
    dice, bias = moments([0.5, 0.7]), moments([-3.0])
    return Sums({CASES: 2, "dice": dice, "bias": bias, "er": Histogram.of(1, 0.9), "lesions_fn": 3})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surplus": 1.0}, "surplus"),
        ({"n": -1.0}, "'n' is a count"),
        ({"n": 1.0}, "'dice' counts 2 cases of 1"),
        ({"n": math.nan}, "'n' holds a value that is not finite"),
        ({"dice.n": 2.5}, "'dice' is a count"),
        ({"dice.total": math.nan}, "'dice' holds a value that is not finite"),
        ({"bias.squares": math.inf}, "'bias' holds a value that is not finite"),
        ({"bias.squares": -1.0}, "negative sum of squares"),
        ({"er.positives.03": 0.5}, "'er' is a count"),
        ({"er.negatives.03": -1.0}, "'er' is a count"),
        ({"er.negatives.03": 2.0}, "'er' counts 3 cases of 2"),
        ({"lesions_fn": 0.5}, "'lesions_fn' is a count"),
    ],
)
def test_sums_that_cannot_be_are_refused(change, words):
    flat = whole().to_flat()
    assert Sums.from_flat(flat, KINDS) == whole()
    for strict in (True, False):
        if strict or "surplus" not in change:
            with pytest.raises(ValueError, match=words):
                Sums.from_flat(flat | change, KINDS, strict=strict)


@pytest.mark.parametrize("name", ["n", "dice.total", "er.positives.07", "lesions_fn"])
def test_a_missing_name_is_refused(name):
    flat = whole().to_flat()
    del flat[name]
    with pytest.raises(ValueError, match="missing sums: " + name.replace(".", r"\.")):
        Sums.from_flat(flat, KINDS)


def test_a_journal_of_another_version_is_read_as_far_as_both_know_it():
    other = whole().to_flat() | {"voxels_tp": 9.0, "nsd.n": 2.0, "nsd.total": 1.5, "nsd.squares": 1.2}
    for name in [key for key in other if key.startswith("er.")]:
        del other[name]
    found = Sums.from_flat(other, KINDS, strict=False)
    assert (found.n, found.moments("dice").mean, found.count("lesions_fn")) == (2, 0.6, 3)
    assert (found.histogram("er"), found.moments("nsd"), found.count("voxels_tp")) == (Histogram(), Moments(), 0)
    # Half of a part is no part: what it says is not known.
    del other["dice.squares"]
    with pytest.raises(ValueError, match="'dice' is not whole: 1 of its numbers"):
        Sums.from_flat(other, KINDS, strict=False)


def test_sides_are_what_has_cases_and_without_a_part_is_as_if_no_case_had_it():
    sums = Sums({CASES: 3, "dice": Moments.of(0.5), "hd95": Moments(), "er": Histogram.of(1, 0.3), "lesions_fn": 2})
    assert list(sums.sides()) == ["dice", "er.positives"]
    assert list((sums + Sums({"er": Histogram.of(0, 0.3)})).sides()) == ["dice", "er.positives", "er.negatives"]
    left = sums.without({"er", "dice"})
    assert left == Sums({CASES: 3, "dice": Moments(), "hd95": Moments(), "er": Histogram(), "lesions_fn": 2})
    assert left.to_flat().keys() == sums.to_flat().keys()
