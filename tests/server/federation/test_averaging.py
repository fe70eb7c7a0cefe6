"""The running average against exact arithmetic: Python's integers and fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.averaging import (
    BLOCK,
    MOST_CASES,
    SCALE,
    RunningAverage,
    check_values,
    owned_parts,
    to_integers,
)
from shared.errors import UpdateError
from shared.messages.payload import LARGEST_VALUE

BELOW = float(np.nextafter(np.float32(LARGEST_VALUE), np.float32(0)))
# Wide: from the smallest float32 to the largest that is allowed, of both signs.
VALUES = st.one_of(
    st.floats(-BELOW, BELOW, width=32),
    st.floats(-1, 1, width=32),
    st.sampled_from([-0.0, 1e-45, -1e-38, BELOW, -BELOW]),
)
UPDATES = st.lists(
    st.tuples(hnp.arrays(np.float32, 5, elements=VALUES), st.integers(1, MOST_CASES // 8)), min_size=1, max_size=8
)


def average(updates):
    running = RunningAverage(np.zeros(len(updates[0][0]), np.float32))
    for weights, cases in updates:
        running.add(np.asarray(weights, np.float32), {"": cases})
    return running.mean()


@settings(max_examples=100, deadline=None)
@given(UPDATES, UPDATES)
def test_what_is_taken_out_leaves_no_trace(kept, taken):
    running = RunningAverage(np.zeros(5, np.float32))
    for weights, cases in [*kept, *taken]:
        running.add(weights, {"": cases})
    for weights, cases in taken:
        running.remove(weights.copy(), {"": cases})
    assert running.mean().tobytes() == average(kept).tobytes()


def test_an_average_of_which_all_was_taken_out_is_none():
    running = RunningAverage(np.zeros(2, np.float32))
    running.add(np.ones(2, np.float32), {"": 3})
    running.remove(np.ones(2, np.float32), {"": 3})
    with pytest.raises(UpdateError, match="no update was added"):
        running.mean()


def fixed(value, cases):
    """Exactly: the product as a multiple of 1 / SCALE, half to even, as Python rounds a fraction."""
    return round(Fraction(float(value)) * cases * int(SCALE))


def test_fedavg_golden():
    mean = average([([1, 2], 100), ([3, 4], 200), ([5, 6], 700)])
    assert np.array_equal(mean, np.array([4.2, 5.2], np.float32))


@settings(max_examples=300, deadline=None)
@given(UPDATES, st.randoms(use_true_random=False))
def test_scenario_71_the_bits_are_those_of_exact_integers_in_any_order(updates, random):
    mean = average(updates)
    total = sum(cases for _, cases in updates)
    for index, value in enumerate(mean):
        whole = sum(fixed(weights[index], cases) for weights, cases in updates)
        assert -(2**63) < whole < 2**63
        # NumPy rounds the sum to float64 and divides; the quotient is rounded once more to float32.
        assert value.tobytes() == np.float32(float(whole) / (total * SCALE)).tobytes()
        exact = sum(Fraction(float(weights[index])) * cases for weights, cases in updates) / total
        # The bound that the module states, float64's two roundings and float32's one.
        bound = Fraction(len(updates), 2 * int(SCALE) * total) + abs(exact) * Fraction(1, 2**51)
        assert (
            abs(Fraction(float(value)) - exact)
            <= bound + Fraction(float(np.spacing(np.abs(value)))) / 2 + bound / 2**20
        )
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert average(shuffled).tobytes() == mean.tobytes()


def test_scenario_71_orders_that_break_a_plain_sum_do_not_break_this_one():
    # In float32 60000 + 1e-3 - 60000 is 0 or 1e-3 by order.
    updates = [([60000.0], 1), ([1e-3], 1), ([-60000.0], 1), ([3.0], 1)]
    orders = ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [0, 2, 1, 3])
    means = {float(average([updates[i] for i in order])[0]) for order in orders}
    assert means == {float(np.float32(3.001 / 4))}


def test_the_largest_sum_that_is_allowed_does_not_wrap_in_either_direction():
    for value in (BELOW, -BELOW):
        assert average([([value], MOST_CASES // 4)] * 4).tolist() == [value]


def test_blocks_do_not_show():
    draws = np.random.default_rng(0)
    updates = [(draws.normal(size=2 * BLOCK + 17).astype(np.float32), int(n)) for n in (3, 11, 5)]
    expected = sum(w.astype(np.longdouble) * n for w, n in updates) / 19
    assert np.abs(average(updates) - expected).max() <= 3 / 19 * 2**-28 + 2**-23
    assert np.array_equal(average(updates)[-17:], average([(w[-17:], n) for w, n in updates]))


def test_one_update_comes_back_within_the_stated_error():
    weights = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    weights[:2] = -0.0, 1e-45
    # Values of at least 2^-4 / 24 have no bits below 2^-27 / 24: those come back to the last bit.
    mean, large = average([(weights, 24)]), np.abs(weights) >= 2**-3
    assert np.array_equal(mean[large], weights[large])
    assert np.abs(mean - weights).max() <= 2**-28 / 24 + 2**-28


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value):
    weights = np.zeros(3 * BLOCK, np.float32)
    weights[-1] = value
    with pytest.raises(UpdateError, match="not finite"):
        check_values(weights)


@pytest.mark.parametrize("value", [LARGEST_VALUE, -LARGEST_VALUE, 3e38])
def test_a_value_above_the_bound_is_refused(value):
    with pytest.raises(UpdateError, match=r"magnitude .*below 65536"):
        check_values(np.array([5, value], np.float32))
    check_values(np.array([BELOW, -BELOW], np.float32))


@pytest.mark.parametrize("cases", [0, -3])
def test_a_count_that_cannot_weigh_is_refused(cases):
    with pytest.raises(UpdateError, match="cannot weigh"):
        RunningAverage(np.zeros(1, np.float32)).add(np.ones(1, np.float32), {"": cases})


def test_more_cases_than_the_sum_has_room_for_are_refused():
    running = RunningAverage(np.zeros(1, np.float32))
    running.add(np.ones(1, np.float32), {"": MOST_CASES})
    with pytest.raises(UpdateError, match=f"at most {MOST_CASES} cases"):
        running.add(np.ones(1, np.float32), {"": 1})
    assert running.mean().tolist() == [1]


def test_another_length_is_refused_also_one_that_would_broadcast():
    with pytest.raises(UpdateError, match="shape"):
        RunningAverage(np.zeros(3, np.float32)).add(np.ones(1, np.float32), {"": 1})


def test_the_mean_is_given_once_for_the_sums_are_used_up():
    running = RunningAverage(np.zeros(3, np.float32))
    running.add(np.ones(3, np.float32), {"": 1})
    assert running.mean().tolist() == [1, 1, 1]
    with pytest.raises(UpdateError, match="no update"):
        running.mean()


def test_an_empty_average_is_refused():
    with pytest.raises(UpdateError, match="no update"):
        RunningAverage(np.zeros(3, np.float32)).mean()


@given(st.integers(0, 2**32), st.permutations(range(3)))
def test_masks_that_sum_to_zero_in_the_ring_leave_the_mean_as_it_is(seed, order):
    draws = np.random.default_rng(seed)
    updates = [(draws.normal(size=9).astype(np.float32), cases) for cases in (4, 20, 7)]
    masks = draws.integers(-(2**63), 2**63, (2, 9))  # uniform in the ring
    masks = [masks[0], masks[1], -masks[0] - masks[1]]
    running = RunningAverage(np.zeros(9, np.float32))
    for number in order:
        weights, cases = updates[number]
        to_integers(weights, cases, integers := np.empty(9, np.int64))
        running.add(integers + masks[number], {"": cases})
    assert running.mean().tobytes() == average(updates).tobytes()


def owned(label):
    return {"heads.ki67.weight": "ki67", "heads.er.weight": "er"}.get(label, "")


STATE = {"body": torch.zeros(3), "heads.er.weight": torch.zeros(2), "heads.ki67.weight": torch.zeros(2)}
START = np.array([9, 9, 9, 5, 5, 7, 7], np.float32)  # in name order
PARTS = owned_parts(STATE, owned)


def test_parts_lie_as_the_flat_array_does_and_neighbours_of_one_label_are_one():
    state = {"z": torch.zeros(4), "a": torch.zeros(2, 3), "b": torch.zeros(()), "c": torch.zeros(5)}
    parts = owned_parts(state, lambda name: {"c": "er"}.get(name, ""))
    assert parts == [(range(7), ""), (range(7, 12), "er"), (range(12, 16), "")]


def test_a_head_is_averaged_over_the_sites_that_have_its_label_and_by_their_labelled_cases():
    average = RunningAverage(START, PARTS)
    average.add(np.array([1, 1, 1, 1, 1, 100, 100], np.float32), {"": 10, "er": 10, "ki67": 0})
    average.add(np.array([4, 4, 4, 4, 4, 2, 2], np.float32), {"": 20, "er": 5, "ki67": 20})
    # Body (10 x 1 + 20 x 4) / 30; ER (10 x 1 + 5 x 4) / 15; Ki-67 from the second site alone.
    assert average.mean().tolist() == [3, 3, 3, 2, 2, 2, 2]


def test_a_head_that_no_site_has_the_label_of_keeps_the_global_values():
    average = RunningAverage(START, PARTS)
    average.add(np.full(7, 1, np.float32), {"": 3, "er": 3})
    assert average.mean().tolist() == [1, 1, 1, 1, 1, 7, 7]


@given(shift=st.floats(-1e3, 1e3, width=32), cases=st.integers(1, 50))
def test_what_a_site_without_a_label_sends_for_its_head_changes_nothing(shift, cases):
    def merged(value):
        average = RunningAverage(START, PARTS)
        average.add(np.arange(7, dtype=np.float32), {"": 8, "er": 8, "ki67": 8})
        average.add(np.array([1, 2, 3, 4, 5, value, value], np.float32), {"": cases, "er": cases, "ki67": 0})
        return average.mean()

    assert np.array_equal(merged(0.0), merged(shift))


def test_without_owners_it_is_the_plain_average():
    draws = np.random.default_rng(0)
    plain, parts = RunningAverage(np.zeros(7, np.float32)), RunningAverage(np.zeros(7, np.float32), PARTS)
    for cases in (3, 17, 5):
        weights = draws.normal(size=7).astype(np.float32)
        plain.add(weights, {"": cases})
        parts.add(weights, {"": cases, "er": cases, "ki67": cases})
    assert np.array_equal(plain.mean(), parts.mean())
