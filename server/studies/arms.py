"""The arms of a comparison on the same cases, plan, loop and budget: each site alone, and all data in one place.

*local:<site>* trains a site's cases for as many rounds and steps as the site has in the federation. *pooled* trains
all sites' cases for the steps of all sites together: the ceiling that hospitals cannot reach without sharing images. Both run
`shared.training.train_round`, as the federation's clients do, and start from the same weights. Simulation only: this
process can see every folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.config import RunConfig
from shared.inference import evaluate_case
from shared.metrics.overlap import CaseMetrics
from shared.preprocessing.cache import CachedCase
from shared.tasks import task_named
from shared.training import train_round
from shared.types import Split

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class SiteCases:
    """A site's prepared cases by split; all of them under `test` at the external centre."""

    name: str
    splits: dict[Split, list[CachedCase]]


@dataclass(frozen=True, slots=True)
class Judged:
    """One case as one arm's model read it."""

    centre: str
    case: str
    metrics: CaseMetrics


def local_arm(config: RunConfig, site: SiteCases, on_round: Callable[[], None] = lambda: None) -> nn.Module:
    """Train on one site alone: the federation's budget of that site."""
    return _central(config, site.splits["train"], site.name, on_round)


def pooled_arm(config: RunConfig, sites: Sequence[SiteCases], on_round: Callable[[], None] = lambda: None) -> nn.Module:
    """Train on all sites' cases in one place: the federation's budget of all sites together."""
    training = config.training.model_copy(update={"steps_per_round": config.training.steps_per_round * len(sites)})
    cases = [case for site in sites for case in site.splits["train"]]
    return _central(config.model_copy(update={"training": training}), cases, "pooled", on_round)


def _central(config: RunConfig, cases: Sequence[CachedCase], name: str, on_round: Callable[[], None]) -> nn.Module:
    model = task_named(config.task).build_model(config)
    for number in range(1, config.federation.rounds + 1):
        train_round(model, cases, config, round_number=number, site=name)
        on_round()
    return model


def judge(model: nn.Module, sites: Sequence[SiteCases], config: RunConfig) -> list[Judged]:
    """Read every test case of every site with one model."""
    return [
        Judged(site.name, case.key, evaluate_case(model, case, config)[0])
        for site in sites
        for case in site.splits["test"]
    ]
