"""The arms of a comparison on the same cases, plan, loop and budget: each site alone, and all data in one place.

*local:<site>* trains a site's cases for as many rounds and steps as the site has in the federation. *pooled* trains
all sites' cases for the steps of all sites together: the ceiling that hospitals cannot reach without sharing images.
Both run `shared.training.train_round`, as the federation's clients do, and start from the same weights. Simulation
only: this process can see every folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from shared.config import RunConfig
from shared.preprocessing.cache import CachedCase
from shared.tasks import task_named
from shared.training import train_round

TrainingCases = Mapping[str, Sequence[CachedCase]]
"""Training cases by site, in the order of the configuration."""


def arm_names(config: RunConfig) -> list[str]:
    """Every arm of a comparison, the federation first."""
    return ["federated", *(f"local:{site}" for site in config.data.sites), "pooled"]


def train_arm(arm: str, config: RunConfig, cases: TrainingCases, on_round: Callable[[int], None]) -> nn.Module:
    """Train `local:<site>` or `pooled`; `on_round` is told each finished round.

    Raises
    ------
    KeyError
        The arm names a site that has no training cases.

    """
    if arm == "pooled":
        steps = config.training.steps_per_round * len(cases)
        training = config.training.model_copy(update={"steps_per_round": steps})
        return _central(
            config.model_copy(update={"training": training}),
            [case for site in cases.values() for case in site],
            arm,
            on_round,
        )
    site = arm.removeprefix("local:")
    return _central(config, cases[site], site, on_round)


def _central(config: RunConfig, cases: Sequence[CachedCase], name: str, on_round: Callable[[int], None]) -> nn.Module:
    model = task_named(config.task).build_model(config)
    for number in range(1, config.federation.rounds + 1):
        train_round(model, cases, config, round_number=number, site=name)
        on_round(number)
    return model
