"""What a site does with an instruction: one function a kind of message, no Flower in sight."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from client.readable_cases import open_sound
from client.site_state import SiteState
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.inference import evaluate
from shared.messages.instruction_reply import Instruction, Reply
from shared.messages.payload import State, count_splits, flatten, label_key, manifest_of, unflatten
from shared.messages.versions import own_versions
from shared.models.uninitialised import UnsetValues
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.plan import Plan
from shared.site import Prepared, Site
from shared.tasks import Task, task_named
from shared.training import train_round

log = logging.getLogger(__name__)


def register(instruction: Instruction, held: Sequence[int]) -> Reply:
    """Say which sites' data this node holds, by their indices in `RunConfig.centres`, and what it runs."""
    return Reply(
        site=instruction.site,
        run=instruction.run,
        round=instruction.round,
        sites=tuple(held),
        versions=own_versions(),
    )


def fingerprint(site: Site, instruction: Instruction) -> Reply:
    """Count the training cases' spacing, extent, volume and intensity."""
    _must_train(site)
    return replace(_empty(site, instruction), fingerprint=site.fingerprint())


def prepare(site: Site, instruction: Instruction) -> Reply:
    """Prepare every case by the plan; answer with counts a split and the reasons of what was left out."""
    started = time.perf_counter()
    for name in site.config.tasks:
        task_named(name).check()
    prepared = site.prepare(_plan(instruction))
    return replace(
        _empty(site, instruction),
        included=count_splits({split: len(cases) for split, cases in prepared.items()}),
        excluded=site.exclusion_counts(),
        over_policy=site.over_policy(),
        labelled=site.labelled(prepared["train"]),
        classes=site.classes([case for cases in prepared.values() for case in cases]),
        seconds=time.perf_counter() - started,
    )


def train(site: Site, instruction: Instruction) -> Reply:
    """Train a task's global model for one round on the site's training cases; answer with weights, cases and loss.

    Cases that cannot be opened are skipped; the answer then also counts those used by label. Where the server asks for
    it, the model is judged on the validation cases before it is trained, as `judge` does: it travels once for both. A
    judging that fails costs no training: the server then asks for it alone, and is told why.
    """
    _must_train(site)
    config, plan = _view(site, instruction), _plan(instruction)
    # The hospital's policy bounds the run's rounds: there are no others.
    if not 1 <= instruction.round <= config.federation.rounds:
        raise UpdateError(f"round {instruction.round} is asked for, the run has {config.federation.rounds}")
    task = task_named(config.task)
    prepared = site.prepared(plan)
    judged = _empty(site, instruction)
    before = replace(instruction, round=instruction.round - 1)  # whose model it is
    if instruction.judging and prepared["validation"]:
        try:
            judged = judge(site, replace(before, split="validation"))
        except Exception:
            log.exception("judging before round %d failed", instruction.round)
    cases, skipped = open_sound(task, prepared["train"], plan, config)
    model, sent, kept = _model(site, task, config, before)
    strategy, start = config.federation.algorithm, copy.deepcopy(model.state_dict())
    summary = train_round(
        model,
        cases,
        config,
        round_number=instruction.round,
        site=site.name,
        loss_term=partial(strategy.loss_term, anchor=start, site_state=kept),
    )
    SiteState(site.run, site.name, task.name).keep(instruction.round, strategy.keep_at_site(model, start, kept))
    # In place of what stays here go the values that came.
    answer = {name: sent[name] if strategy.stays_at_site(name) else value for name, value in model.state_dict().items()}
    used = {case.key: case.labels for case in cases}
    counts = task.counts(list(used.values()), config) if skipped else {}
    return replace(
        _empty(site, instruction),
        weights=flatten(answer),
        manifest=instruction.manifest,
        cases=len(used),
        skipped=skipped,
        labelled={label_key(task.name, label): count for label, count in counts.items()},
        loss=summary.loss,
        seconds=summary.seconds,
        sums=judged.sums,
        judging_skipped=judged.skipped,
        judging_seconds=judged.seconds,
    )


def judge(site: Site, instruction: Instruction) -> Reply:
    """Evaluate the global model on one split; answer with sums."""
    started = time.perf_counter()
    config, plan = _view(site, instruction), _plan(instruction)
    task = task_named(config.task)
    prepared = _asked(site, site.prepared(plan), instruction.split)
    # Balancing is for the loss: each case is judged once.
    opened, skipped = open_sound(task, prepared, plan, config)
    cases = list({case.key: case for case in opened}.values())
    model, _, _ = _model(site, task, config, instruction)
    sums = evaluate(model, cases, config)
    return replace(
        _empty(site, instruction),
        sums=sums,
        cases=len(cases),
        skipped=skipped,
        seconds=time.perf_counter() - started,
    )


def _must_train(site: Site) -> None:
    if site.name == site.config.data.external:
        raise UpdateError("this is the run's external centre: it judges and has no part in training")


def _asked(site: Site, prepared: Prepared, split: str) -> list[CachedCase]:
    """The cases to be judged: a training site's validation or test cases, all of an external centre's."""
    if site.name == site.config.data.external and split == "external":
        return [case for cases in prepared.values() for case in cases]
    if site.name != site.config.data.external and split in {"validation", "test"}:
        return prepared["validation" if split == "validation" else "test"]
    raise UpdateError(f"split '{split}' is not one a server may ask this site to evaluate")


def _empty(site: Site, instruction: Instruction) -> Reply:
    return Reply(site=site.name, run=instruction.run, round=instruction.round)


def _view(site: Site, instruction: Instruction) -> RunConfig:
    """The site's configuration as the instruction's task sees it."""
    for name in site.config.tasks:
        if name == instruction.task:
            return site.config.for_task(name)
    raise UpdateError("the server asks for a task that the run does not have")


def _plan(instruction: Instruction) -> Plan:
    if instruction.plan is None:
        raise UpdateError("the server sent no preprocessing plan")
    return instruction.plan


def _model(site: Site, task: Task, config: RunConfig, instruction: Instruction) -> tuple[nn.Module, State, State]:
    """The task's network after the instruction's round; the server's weights by name; what the strategy kept here.

    In the network stand the server's weights, and of what stays at the site its own.
    """
    with UnsetValues():
        model = task.build_model(config)
    like = model.state_dict()
    if instruction.weights is None or instruction.manifest != manifest_of(like):
        raise UpdateError("the server's model has other names, shapes or types than this site's code builds")
    sent = unflatten(instruction.weights, like)
    kept = SiteState(site.run, site.name, task.name).after(instruction.round)
    stays = config.federation.algorithm.stays_at_site
    model.load_state_dict(sent | {name: kept[name] for name in sent if stays(name) and name in kept})
    return model, sent, kept
