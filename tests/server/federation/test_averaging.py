"""The running average against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.averaging import BLOCK, OwnedAverage, RunningAverage, owned_places
from shared.errors import UpdateError

COUNTS = st.integers(1, 10**6)


def near_one(value):
    """Zero, or far from where float32 ends: the sum is exact there."""
    return value == 0 or 1e-10 < abs(value) < 1e10


FLOATS = st.floats(-1e6, 1e6, width=32, allow_nan=False)


def average(updates):
    running = RunningAverage(len(updates[0][0]))
    for weights, cases in updates:
        running.add(np.asarray(weights, np.float32), cases)
    return running.mean()


def test_fedavg_golden():
    mean = average([([1, 2], 100), ([3, 4], 200), ([5, 6], 700)])
    assert np.array_equal(mean, np.array([4.2, 5.2], np.float32))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(hnp.arrays(np.float32, 5, elements=FLOATS), st.integers(1, 10**6)), min_size=1, max_size=7),
    st.randoms(use_true_random=False),
)
def test_scenario_71_the_mean_is_exact_to_float32_in_any_order(updates, random):
    mean = average(updates)
    total = sum(cases for _, cases in updates)
    for index, value in enumerate(mean):
        exact = sum(Fraction(float(weights[index])) * cases for weights, cases in updates) / total
        nearest = np.float32(float(exact))
        assert abs(float(value) - float(nearest)) <= abs(float(np.spacing(nearest)))
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert average(shuffled).tobytes() == mean.tobytes()


def test_scenario_71_orders_that_break_a_plain_sum_do_not_break_this_one():
    # In plain float64 1e16 + 1 - 1e16 is 0 or 1 by order; the lost part is carried here.
    updates = [([1e16], 1), ([1.0], 1), ([-1e16], 1), ([3.0], 1)]
    orders = ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [0, 2, 1, 3])
    assert {float(average([updates[i] for i in order])[0]) for order in orders} == {1.0}


@pytest.mark.parametrize("blocks", [2, 24])  # of the many, several threads have a stretch each
def test_blocks_do_not_show(blocks):
    draws = np.random.default_rng(0)
    updates = [(draws.normal(size=blocks * BLOCK + 17).astype(np.float32), int(n)) for n in (3, 11, 5)]
    expected = sum(w.astype(np.longdouble) * n for w, n in updates) / 19
    assert np.array_equal(average(updates), expected.astype(np.float32))


def test_one_update_comes_back_as_it_was():
    weights = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    weights[:2] = -0.0, 1e-45
    assert average([(weights, 24)]).tobytes() == weights.tobytes()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False).filter(near_one), COUNTS),
        min_size=1,
        max_size=6,
    )
)
def test_the_mean_is_the_exact_one_rounded_once(updates):
    exact = sum(Fraction(value) * cases for value, cases in updates) / sum(cases for _, cases in updates)
    mean = average([([value], cases) for value, cases in updates])[0]
    below, above = (np.nextafter(mean, np.float32(side)) for side in (-np.inf, np.inf))
    distance = abs(Fraction(float(mean)) - exact)
    assert all(distance <= abs(Fraction(float(other)) - exact) for other in (below, above))


@pytest.mark.parametrize("cases", [0, -3, 1 << 29])
def test_a_count_that_cannot_weigh_is_refused(cases):
    with pytest.raises(UpdateError, match="cannot weigh"):
        RunningAverage(1).add(np.ones(1, np.float32), cases)


def test_another_length_is_refused_also_one_that_would_broadcast():
    with pytest.raises(UpdateError, match="shape"):
        RunningAverage(3).add(np.ones(1, np.float32), 1)


def test_an_empty_average_is_refused():
    with pytest.raises(UpdateError, match="no update"):
        RunningAverage(3).mean()


def owned(label):
    return {"heads.ki67.weight": "ki67", "heads.er.weight": "er"}.get(label, "")


STATE = {"body": torch.zeros(3), "heads.er.weight": torch.zeros(2), "heads.ki67.weight": torch.zeros(2)}
START = np.array([9, 9, 9, 5, 5, 7, 7], np.float32)  # in name order


def test_a_head_is_averaged_over_the_sites_that_have_its_label_and_by_their_labelled_cases():
    average = OwnedAverage(START, owned_places(STATE, owned))
    average.add(np.array([1, 1, 1, 1, 1, 100, 100], np.float32), {"": 10, "er": 10, "ki67": 0})
    average.add(np.array([4, 4, 4, 4, 4, 2, 2], np.float32), {"": 20, "er": 5, "ki67": 20})
    # Body (10 x 1 + 20 x 4) / 30; ER (10 x 1 + 5 x 4) / 15; Ki-67 from the second site alone.
    assert average.mean().tolist() == [3, 3, 3, 2, 2, 2, 2]


def test_a_head_that_no_site_has_the_label_of_keeps_the_global_values():
    average = OwnedAverage(START, owned_places(STATE, owned))
    average.add(np.full(7, 1, np.float32), {"": 3, "er": 3})
    assert average.mean().tolist() == [1, 1, 1, 1, 1, 7, 7]


@given(shift=st.floats(-1e3, 1e3, width=32), cases=st.integers(1, 50))
def test_what_a_site_without_a_label_sends_for_its_head_changes_nothing(shift, cases):
    def merged(value):
        average = OwnedAverage(START, owned_places(STATE, owned))
        average.add(np.arange(7, dtype=np.float32), {"": 8, "er": 8, "ki67": 8})
        average.add(np.array([1, 2, 3, 4, 5, value, value], np.float32), {"": cases, "er": cases, "ki67": 0})
        return average.mean()

    assert np.array_equal(merged(0.0), merged(shift))


def test_without_owners_it_is_the_plain_average():
    draws = np.random.default_rng(0)
    plain, parts = RunningAverage(40), OwnedAverage(np.zeros(40, np.float32), {})
    for cases in (3, 17, 5):
        weights = draws.normal(size=40).astype(np.float32)
        plain.add(weights, cases)
        parts.add(weights, {"": cases})
    assert np.array_equal(plain.mean(), parts.mean())


def test_an_average_of_nothing_is_refused():
    with pytest.raises(UpdateError, match="no update"):
        OwnedAverage(START, {}).mean()
