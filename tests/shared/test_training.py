"""The loop: learning, seeds, schedule, the strategy's term, patches."""

import copy
import logging
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.inference import predict_structures
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.training import BETAS, learning_rate, reach, train_round


def config(**sections):
    raw = {
        "name": "tiny",
        "data": {"root": "data", "sites": ["a"]},
        "preprocessing": {"post_phases": 1},
        "model": {"channels": [8, 8], "stem_stride": 2},
        "training": {"steps_per_round": 4, "learning_rate": 0.01},
        "federation": {"rounds": 2},
    }
    for name, values in sections.items():
        raw[name] = {**raw.get(name, {}), **values}
    return parse_config(raw, "tiny")


def case(seed, shape=(8, 16, 16)):
    draws = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    z, y, x = (int(draws.integers(1, side - 5)) for side in shape)
    mask[z : z + 4, y : y + 4, x : x + 4] = 1
    image = draws.normal(0, 0.1, (2, *shape)).astype(np.float16)
    image[1] += 2 * mask.astype(np.float16)
    return SimpleNamespace(image=image, mask=mask, foreground=np.argwhere(mask).astype(np.int32))


CASES = [case(seed) for seed in range(4)]


def train(settings, cases=CASES, rounds=(1,), site="a", **term):
    model = task_named("lesion-segmentation").learner.build_model(settings)
    summary = None
    for number in rounds:
        summary = train_round(model, cases, settings, round_number=number, site=site, **term)
    return model, summary


def test_the_loop_learns_a_bright_box():
    settings = config(training={"steps_per_round": 60, "augmentation": {"affine": 0.0}}, federation={"rounds": 1})
    model, summary = train(settings)
    assert summary.steps == 60
    fresh = case(99)
    probability = predict_structures(model, fresh.image, settings)[0]
    predicted = probability > 0.5
    dice = 2 * (predicted & (fresh.mask > 0)).sum() / (predicted.sum() + fresh.mask.sum())
    assert dice > 0.6


def test_scenario_70_the_same_seed_gives_the_same_bytes_and_another_does_not():
    first, second, other = (state_hash(train(config(), site=site)[0].state_dict()) for site in ("a", "a", "b"))
    assert first == second
    assert first != other


def test_each_round_draws_anew():
    assert state_hash(train(config(), rounds=(1,))[0].state_dict()) != state_hash(
        train(config(), rounds=(2,))[0].state_dict()
    )


def test_the_learning_rate_warms_up_and_falls_as_a_cosine_over_all_rounds():
    settings = config(
        training={"steps_per_round": 10, "warmup_steps": 4, "learning_rate": 0.2}, federation={"rounds": 2}
    )
    assert [learning_rate(settings, step) for step in range(4)] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert learning_rate(settings, 4) == pytest.approx(0.2)
    assert learning_rate(settings, 12) == pytest.approx(0.1)
    assert learning_rate(settings, 8) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))


def test_a_strategys_term_is_added_to_the_loss_and_not_told_as_part_of_it():
    plain, told = train(config())
    same, summary = train(config(), loss_term=lambda _: 7.0)
    assert state_hash(same.state_dict()) == state_hash(plain.state_dict())  # a constant has no gradient
    assert summary.loss == told.loss
    shrunk, _ = train(config(), loss_term=lambda model: 100 * sum(v.square().sum() for v in model.parameters()))

    def size(model):
        return sum(float(value.detach().square().sum()) for value in model.parameters())

    assert size(shrunk) < 0.9 * size(plain)


def within(start, end, bound):
    """The largest share of its reach that a parameter has moved."""
    step, share = bound
    moved = [
        float(((b.detach().double() - a.detach().double()).abs() / (step + share * a.detach().double().abs())).max())
        for a, b in zip(start.parameters(), end.parameters(), strict=True)
    ]
    return max(moved)


@given(
    rate=st.floats(1e-6, 10.0),
    decay=st.sampled_from([0.0, 0.01, 2.0, 10.0]),
    clip=st.sampled_from([1e-30, 12.0, 1e6]),
    pull=st.floats(-1e18, 1e18),
    growth=st.floats(0.1, 10.0),
    steps=st.integers(1, 12),
    warmup=st.integers(0, 8),
    number=st.integers(1, 3),
)
@settings(max_examples=40)
def test_no_round_moves_a_parameter_beyond_its_reach(rate, decay, clip, pull, growth, steps, warmup, number):
    training = {
        "learning_rate": rate, "weight_decay": decay, "gradient_clip": clip, "steps_per_round": steps,
        "warmup_steps": warmup,
    }  # fmt: skip
    extreme = config(training=training, federation={"rounds": 3})
    start, _ = train(extreme, rounds=())
    calls = iter(range(1000))

    def drag(model):
        return pull * growth ** next(calls) * sum(value.mean() for value in model.parameters())

    try:
        end, _ = train(extreme, rounds=(number,), loss_term=drag)
    except RunError:
        return  # weights beyond what numbers hold: nothing is sent
    assert within(start, end, reach(extreme, number)) <= 1


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 100])
def test_gradients_that_grow_as_the_moments_fade_go_as_far_as_the_reach(steps):
    # So no smaller bound is true. Above 100 steps float32 no longer holds such gradients' range.
    plain = config(training={"steps_per_round": steps, "weight_decay": 0.0}, federation={"rounds": 1000})
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([weight], lr=0.01, betas=BETAS, weight_decay=0.0)
    for step in range(steps):
        weight.grad = torch.full((1,), -((BETAS[1] / BETAS[0]) ** (step - steps)) * 1e3)
        optimiser.step()
    furthest, share = reach(plain, 1)
    assert 0.99 * furthest < float(weight.detach()) <= furthest
    assert share < 1e-4


def test_large_parameters_decay_by_their_share_and_no_further():
    training = {"learning_rate": 0.01, "weight_decay": 2.0, "steps_per_round": 20}
    fast = config(training=training, federation={"rounds": 1000})
    start, _ = train(fast, rounds=())
    for value in start.parameters():
        value.data *= 1000
    end = copy.deepcopy(start)
    train_round(end, CASES, fast, round_number=1, site="a")
    step, share = reach(fast, 1)
    assert share == pytest.approx(1.02**20 - 1, rel=0.01)
    assert within(start, end, (step, 0.0)) > 1
    assert within(start, end, (step, share)) <= 1


def test_the_reach_falls_with_the_learning_rate_and_is_finite_for_every_configuration():
    early, late = reach(config(federation={"rounds": 100}), 1), reach(config(federation={"rounds": 100}), 100)
    assert late[0] < 1e-3 * early[0]
    training = {"steps_per_round": 100_000, "learning_rate": 10.0, "weight_decay": 10.0}
    assert all(math.isfinite(item) for item in reach(config(training=training), 1))


def test_no_case_left_is_a_clear_error():
    with pytest.raises(RunError, match="no training case"):
        train(config(), cases=[])


def test_a_loss_that_is_not_a_number_stops_with_its_place_in_the_log_alone(caplog):
    broken = case(0)
    broken.image[:] = np.nan
    with pytest.raises(RunError, match=r"^training diverged, the loss is not a number: lower learning_rate$"):
        train(config(), cases=[broken])
    assert "round 1: the loss is not a number at step 1" in caplog.text


def test_weights_that_are_no_numbers_after_the_last_step_are_told_as_one_that_diverged():
    def infinite_slope(model):
        return torch.sqrt(0.0 * next(model.parameters()).sum().abs())

    with pytest.raises(RunError, match="training diverged"):
        train(config(training={"steps_per_round": 1}), loss_term=infinite_slope)


def test_patch_mode_trains_and_predicts_the_whole_box():
    settings = config(training={"mode": "patch", "patch_voxels": [8, 8, 8], "steps_per_round": 2})
    model, _ = train(settings)
    assert predict_structures(model, CASES[0].image, settings).shape == (1, 8, 16, 16)


class Greedy(torch.nn.Module):
    """A network that runs out of memory above a batch of `fits`, in a given step of the round."""

    def __init__(self, inner, fits, step=0):
        super().__init__()
        self.inner, self.fits, self.step = inner, fits, step
        self.batches, self.held = [], []

    def forward(self, image):
        self.batches.append(len(image))
        if len(image) > self.fits and len(self.batches) > self.step:
            self.held.append(weakref.ref(image))
            raise torch.OutOfMemoryError("CUDA out of memory")
        # What the failed attempt held is gone before the next needs the space.
        assert not any(item() is not None for item in self.held)
        return self.inner(image)


def train_greedily(settings, fits, step=0):
    model = Greedy(task_named("lesion-segmentation").learner.build_model(settings), fits, step)
    summary = train_round(model, CASES, settings, round_number=1, site="a")
    return model, summary


def test_scenario_63_a_gpu_out_of_memory_gets_the_round_again_in_smaller_batches_as_if_they_had_been_asked_for(caplog):
    settings = config(training={"batch_size": 8})
    with caplog.at_level(logging.WARNING):
        model, summary = train_greedily(settings, fits=2, step=3)  # the weights have moved when it happens
    assert model.batches == [8] * 4 + [4] + [2] * 4
    asked, expected = train(config(training={"batch_size": 2}))
    assert state_hash(model.inner.state_dict()) == state_hash(asked.state_dict())
    assert (summary.loss, summary.steps) == (expected.loss, 4)
    assert [(item.name, item.getMessage()) for item in caplog.records] == [
        ("shared.training", f"round 1: the GPU ran out of memory, again in batches of {size}; training.batch_size is 8")
        for size in (4, 2)
    ]


def test_scenario_63_without_such_an_error_nothing_changes():
    settings = config(training={"batch_size": 8})
    model, _ = train_greedily(settings, fits=8)
    assert model.batches == [8] * 4
    assert state_hash(model.inner.state_dict()) == state_hash(train(settings)[0].state_dict())


def test_scenario_63_a_gpu_without_space_for_one_sample_leaves_the_round_with_the_remedy():
    with pytest.raises(RunError, match=r"not enough memory for a batch of 1: lower .*max_voxels.*, or leave the run"):
        train_greedily(config(training={"batch_size": 3}), fits=0)
