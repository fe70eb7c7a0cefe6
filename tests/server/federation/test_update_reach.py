"""How far an update may lie from the model that was sent, against real training and against what no training makes."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from server.federation.averaging import BLOCK
from server.federation.update_reach import PARAMETER, Reach, parts_of
from shared.errors import UpdateError
from shared.messages.payload import LARGEST_VALUE, flatten
from shared.models.radiomics import RadiomicsLinear
from tests.shared.test_training import config, train

BATCH = {"model": {"channels": [8, 8], "norm": "batch"}}


def test_parts_are_those_of_the_flat_array():
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    # In name order: 0.bias (2), 0.weight (2), 1.bias (2), then the buffers, 1.weight (2).
    assert parts_of(model) == [
        (range(6), PARAMETER),
        (range(6, 7), "num_batches_tracked"),
        (range(7, 9), "running_mean"),
        (range(9, 11), "running_var"),
        (range(11, 13), PARAMETER),
    ]


@pytest.fixture(scope="module")
def trained():
    """A network with batch norm, its reach in the first round, and what a round makes of it."""
    settings = config(**BATCH)
    fresh, _ = train(settings, rounds=())
    reach = Reach.of(flatten(fresh.state_dict()), parts_of(fresh), settings, 1)
    model, _ = train(settings)
    return reach, flatten(model.state_dict())


def test_a_trained_round_is_within_reach_also_its_statistics(trained):
    reach, update = trained
    assert not np.array_equal(update, reach.start)
    reach.check(update)
    reach.check(reach.start)


def changed(trained, kind, value):
    """The update with the first value of a kind changed."""
    reach, update = trained
    update = update.copy()
    place = next(part for part, own in reach.parts if own == kind)
    update[place.start] = value(reach.start[place.start])
    return reach, update


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (PARAMETER, lambda w: w + 0.05, "steps of this run's training move it by at most 0.0352"),
        (PARAMETER, lambda w: w - 0.05, "a parameter lies 0.05 from the model that was sent, 4 steps"),
        (PARAMETER, lambda _: np.nan, "not finite"),
        (PARAMETER, lambda _: -3e38, "below 65536"),
        ("running_var", lambda _: -1e-6, "a running variance is negative"),
        ("running_var", lambda _: np.nan, "not finite"),
        ("running_mean", lambda _: LARGEST_VALUE, "below 65536"),
        ("num_batches_tracked", lambda _: -1, "went from 0 to -1 in a round of 4 steps"),
        ("num_batches_tracked", lambda _: 5, "went from 0 to 5 in a round of 4 steps"),
        ("num_batches_tracked", lambda _: np.nan, "not finite"),
    ],
)
def test_what_no_round_makes_of_the_model_is_refused(trained, kind, value, reason):
    reach, update = changed(trained, kind, value)
    with pytest.raises(UpdateError, match=reason):
        reach.check(update)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PARAMETER, lambda w: w + 0.0350),
        ("running_mean", lambda _: -60000.0),
        ("running_var", lambda _: 0.0),
        ("num_batches_tracked", lambda _: 4),
    ],
)
def test_what_a_round_may_make_of_it_passes(trained, kind, value):
    reach, update = changed(trained, kind, value)
    reach.check(update)


def test_a_counter_that_is_no_whole_number_may_round():
    model = RadiomicsLinear(1, 1)
    model.num_batches_tracked += np.float32(40 / 3)
    reach = Reach.of(flatten(model.state_dict()), parts_of(model), config(training={"steps_per_round": 100}), 1)
    model.train()
    for _ in range(100):
        model(torch.ones(2, 1))
    reach.check(flatten(model.state_dict()))


@given(
    size=st.sampled_from([1, BLOCK, BLOCK + 1, 2 * BLOCK + 17]),
    place=st.floats(0, 1, exclude_max=True),
    start=st.floats(-70000, 70000, width=32),
    change=st.floats(-2e5, 2e5, width=32),
)
def test_every_place_is_held_to_the_bound_whatever_the_blocks(size, place, start, change):
    model = np.zeros(size, np.float32)
    model[int(place * size)] = start
    settings = config(training={"learning_rate": 10.0, "weight_decay": 1.0, "steps_per_round": 100})
    reach = Reach.of(model, [(range(size), PARAMETER)], settings, 1)
    update = model.copy()
    update[int(place * size)] += np.float32(change)
    moved = abs(float(update[int(place * size)]) - float(start))
    most = reach.step + reach.share * abs(start)
    if abs(moved - most) < 1e-5 * most:
        return  # where the two roundings may differ
    small = abs(float(update[int(place * size)])) < LARGEST_VALUE
    try:
        reach.check(update)
    except UpdateError:
        assert moved > most or not small
    else:
        assert moved <= most
        assert small


def test_it_takes_no_memory_of_the_updates_size():
    start = np.zeros(8_000_000, np.float32)
    reach = Reach.of(start, [(range(len(start)), PARAMETER)], config(), 1)
    update = start + np.float32(0.01)
    tracemalloc.start()
    reach.check(update)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
