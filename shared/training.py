"""The only training loop, for the round of a site, local models, central training and every arm of a study.

Each round starts a new optimiser, in all arms alike: its moments are neither sent nor kept. So a site may miss a round,
and a federation of one site is the same as central training.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.batches import batches
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.inference import in_layout, place_model
from shared.reproducibility import derive_seed, make_deterministic
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)

BETAS = (0.9, 0.999)
"""Of AdamW (Loshchilov 2019): the shares of both moments that are kept from step to step."""
_ROUNDING = 2.0**-23
"""A step rounds a parameter twice to float32, each time by half of this times its magnitude at most."""
_SLACK = 1.001
"""Rounding of the moments and of a distance, in float32: far below a thousandth."""
_FAR = 1e30
"""Where a bound is larger than any parameter, its own size does not matter."""
_DIVERGED = "training diverged, the loss is not a number: lower learning_rate"
"""The same wherever it happens: at which step could depend on one patient, so the site's own log alone tells."""

LossTerm = Callable[[nn.Module], Tensor | float]
"""Computes, from the network in training, what is added to the loss of the task."""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """Summary of one round of training: mean loss, optimiser steps, seconds of wall time."""

    loss: float
    steps: int
    seconds: float


def train_round(
    model: nn.Module,
    cases: Sequence[Any],
    config: RunConfig,
    *,
    round_number: int,
    site: str,
    loss_term: LossTerm = lambda _model: 0.0,
) -> TrainSummary:
    """Train `model`, the round's global one, in place for one round on a site's opened cases, in a fixed order.

    The run's seed, `site` (its name, or the arm's) and `round_number` (1 for the first) determine all random draws.
    `loss_term` is what the strategy adds to the loss; the reported loss does not include it. Parameters of labels that
    no case has are not changed, not even by weight decay. If a GPU has too little memory, the round is repeated from
    its start, with its seed, in batches of half the size.

    `RunError` where there are no cases, the loss is not finite, or the GPU has too little memory for a batch of 1.
    """
    if not cases:
        raise RunError("no training case is left at this site: see its exclusions with `fedbreast check`")
    started = time.perf_counter()
    start = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    size = config.training.batch_size
    while True:
        fitting = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": size})})
        try:
            losses = _steps(model, cases, fitting, round_number, site, loss_term)
        except torch.OutOfMemoryError:
            if size == 1:
                raise RunError(
                    "the GPU has not enough memory for a batch of 1: lower the size of the images or of the network "
                    "(preprocessing.max_voxels, training.patch_voxels, patch.voxels, model.channels), or leave the run"
                ) from None
        else:
            return TrainSummary(float(np.mean(losses)), len(losses), time.perf_counter() - started)
        # Outside the exception handler, because the frames of the exception hold the batch.
        size //= 2
        log.warning(
            "round %d: the GPU ran out of memory, again in batches of %d; training.batch_size is %d",
            round_number,
            size,
            config.training.batch_size,
        )
        model.zero_grad(set_to_none=True)
        model.load_state_dict(start)
        gc.collect()
        torch.cuda.empty_cache()


def _steps(
    model: nn.Module,
    cases: Sequence[Any],
    config: RunConfig,
    round_number: int,
    site: str,
    loss_term: LossTerm,
) -> list[float]:
    """Run the steps of one round and return their losses; arguments as `train_round`."""
    settings, task = config.training, task_named(config.task)
    seed = derive_seed(config.seed, site, round_number)
    make_deterministic(seed, config.compute.threads)

    device = place_model(model, config)
    on_gpu = device.type == "cuda"
    model.train()
    frozen = _unlabelled_state(model, cases, config, task)
    trained = [item for name, item in model.named_parameters() if name not in frozen]
    decayed, plain = [item for item in trained if item.ndim > 1], [item for item in trained if item.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS)
    scaled = settings.mixed_precision == "auto" and on_gpu
    losses: list[float] = []
    with closing(batches(cases, config, seed, pinned=on_gpu)) as prepared:
        for step, batch in enumerate(prepared):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, (round_number - 1) * settings.steps_per_round + step)
            image, target = (item.to(device, non_blocking=on_gpu) for item in batch)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=scaled):
                outputs = model(in_layout(image, config))
            # In float32, as sums over a volume overflow half precision.
            loss = task.learner.loss([item.float() for item in outputs], target)
            total: Tensor = loss + loss_term(model)
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
            optimiser.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                log.warning("round %d: the loss is not a number at step %d", round_number, step + 1)
                raise RunError(_DIVERGED)
    if on_gpu:
        taken = torch.cuda.max_memory_reserved(device) / 1e9
        log.info("round %d: training took up to %.1f GB of the GPU (compute.gpu_memory_gb)", round_number, taken)
    model.load_state_dict(frozen, strict=False)
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise RunError(_DIVERGED)
    return losses


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero over all rounds (Loshchilov 2017); `step` is counted over the whole run."""
    settings = config.training
    total = config.federation.rounds * settings.steps_per_round
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def reach(config: RunConfig, round_number: int) -> tuple[float, float]:
    """How far a round can move a parameter `w`, whatever the data and the loss: at most `step + share x |w|`.

    Step t changes `w` by its rate times `m / sqrt(v)` and times `weight_decay x w`. By Cauchy-Schwarz the former is
    at most `sqrt(sum_i (beta_1^2 / beta_2)^i) x (1 - beta_1) / sqrt(1 - beta_2)`, with i from 0 to t - 1, corrected for
    the moments' bias: 1 in the first step, 1.2 in the twentieth, 7.3 in the end. (Kingma 2015, section 2.1, has 3.2,
    but for one gradient alone; growing ones go further.) Clipping and the strategies' terms change gradients alone.

    Returns
    -------
    `step` and `share`, for float32 as the training loop computes in it.

    """
    settings, (beta_1, beta_2) = config.training, BETAS
    done = (round_number - 1) * settings.steps_per_round
    rates = np.array([learning_rate(config, done + step) for step in range(settings.steps_per_round)])
    t, ratio = np.arange(1, len(rates) + 1), beta_1**2 / beta_2
    longest = (1 - beta_1) * np.sqrt((1 - ratio**t) / (1 - ratio) / (1 - beta_2))
    longest *= np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    grown = min(_FAR, math.exp(min(100.0, float(np.log1p(rates * settings.weight_decay + _ROUNDING).sum()))))
    return _SLACK * grown * float(rates @ longest), _SLACK * (grown - 1)


def _unlabelled_state(model: nn.Module, cases: Sequence[Any], config: RunConfig, task: Task) -> dict[str, Tensor]:
    """Copies of the parameters and buffers of labels that none of the cases has."""
    if not task.learner.owners:
        return {}
    present = {label for case in cases for label in task.seen(case.labels, config)}
    return {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if task.learner.owner(name) and task.learner.owner(name) not in present
    }
