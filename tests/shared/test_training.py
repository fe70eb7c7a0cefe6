"""The loop: learning, seeds, schedule, the strategy's term, patches."""

import logging
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.inference import predict_structures
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.training import learning_rate, train_round


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


def test_no_case_left_is_a_clear_error():
    with pytest.raises(RunError, match="no training case"):
        train(config(), cases=[])


def test_a_loss_that_is_not_a_number_stops_with_its_place():
    broken = case(0)
    broken.image[:] = np.nan
    with pytest.raises(RunError, match="not a number at step 1 of round 1"):
        train(config(), cases=[broken])


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
