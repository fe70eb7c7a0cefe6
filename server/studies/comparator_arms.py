"""The arms beside the federation: each site alone, and all data in one place, in the same loop and with the same plan.

*local:<site>* trains a site's cases for as many rounds and steps as the site has in the federation. *pooled* trains
all sites' cases for the steps of all sites together: the ceiling that hospitals cannot reach without sharing images.
Both run `shared.training.train_round`, as the federation's clients do, start from the same weights, and commit each
round as the federation does, so that a killed arm goes on where it was. Simulation only: this process sees every
folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from torch import nn

from server.run_folder.arms import POOLED
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import RunConfig
from shared.evaluation import evaluate_site
from shared.metrics.sums import Sums
from shared.modalities.modality import Plan
from shared.reproducibility import state_hash
from shared.site import Prepared
from shared.tasks import task_named
from shared.training import train_round


def arm_config(arm: str, config: RunConfig, sites: int) -> RunConfig:
    """The configuration of an arm's loop: the pooled arm has the steps of all `sites` together."""
    if arm != POOLED:
        return config
    training = config.training.model_copy(update={"steps_per_round": config.training.steps_per_round * sites})
    return config.model_copy(update={"training": training})


def train_arm(
    arm: str,
    folder: RunFolder,
    config: RunConfig,
    plan: Plan,
    prepared: Mapping[str, Prepared],
    on_round: Callable[[int], None],
) -> list[RoundRecord]:
    """Train `local:<site>` or `pooled` for the rounds that are not committed yet; return every round's record.

    `config` is the fold's as the task sees it, `plan` that of the task's modality, `prepared` holds each site's cases.
    Rounds are committed in `folder`, and `on_round` is told each. `KeyError` where the arm names a site that has no
    prepared cases, `RunError` where none of its cases has the task's labels.
    """
    task, view = task_named(config.task), arm_config(arm, config, len(prepared))
    names = list(prepared) if arm == POOLED else [arm.partition(":")[2]]

    cases = [case for name in names for case in task.learner.open(prepared[name]["train"], plan, config)]
    validation = [case for name in names for case in prepared[name]["validation"] if task.uses(case.labels, config)]
    model: nn.Module = task.learner.build_model(config)
    records = folder.records(config.task)
    if records:
        model.load_state_dict(folder.model(records[-1]))
    else:
        records = [RoundRecord(config.task, 0, state_hash(model.state_dict()), 0.0, seed=config.seed)]
        folder.commit(records[0], model.state_dict(), {})
    for number in range(records[-1].round + 1, config.federation.rounds + 1):
        started = time.perf_counter()
        summary = train_round(model, cases, view, round_number=number, site=POOLED if arm == POOLED else names[0])
        evaluated = validation if config.federation.evaluates(number) else []
        sums = evaluate_site(task, model, evaluated, plan, config)[0] if evaluated else Sums()
        entry = SiteEntry("accepted", "", len({case.key for case in cases}), summary.seconds, summary.loss)
        if sums.n:
            entry.validation = sums.to_flat()
        state = {name: value.cpu() for name, value in model.state_dict().items()}
        seconds = time.perf_counter() - started
        record = RoundRecord(config.task, number, state_hash(state), seconds, {arm: entry}, seed=config.seed)
        folder.commit(record, state, {})
        records.append(record)
        on_round(number)
    return records
