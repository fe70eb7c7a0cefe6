"""What a site does with an instruction: one function a kind of message, no Flower in sight."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from client.readable_cases import open_readable
from client.site_state import SiteState
from shared.cohort.site_folder import patient_of
from shared.config.run_config import RunConfig
from shared.errors import RunError, UpdateError
from shared.evaluation import evaluate_site
from shared.messages.instruction_reply import Instruction, Reply, SiteFacts
from shared.messages.payload import LARGEST_VALUE, State, fits, flatten, label_key, manifest_of, unflatten
from shared.messages.versions import own_versions
from shared.modalities.modality import Plan, PreparedCase
from shared.models.uninitialised import UnsetValues
from shared.site import Prepared, Site, patients_of
from shared.site_facts import site_facts
from shared.tasks import task_named
from shared.tasks.task import Task
from shared.training import train_round
from shared.types import SPLITS

log = logging.getLogger(__name__)


def register(
    instruction: Instruction,
    held: Mapping[str, Path],
    facts_of: Callable[[Path, RunConfig], SiteFacts] = site_facts,
) -> Reply:
    """Say which sites' data this node holds, by their indices in `RunConfig.centres`, what they are, and what it runs.

    Of a site whose folder cannot be read nothing is told: its first request says why.
    """
    config = instruction.config
    centres = config.centres if config else ()
    facts: dict[int, SiteFacts] = {}
    for name, folder in held.items():
        try:
            if config:
                facts[centres.index(name)] = facts_of(folder, config)
        except Exception:  # whatever is wrong with one folder, the others are told of
            log.exception("%s cannot tell what it has", name)
    return Reply(
        site=instruction.site,
        run=instruction.run,
        round=instruction.round,
        sites=tuple(centres.index(name) for name in held),
        facts=facts,
        versions=own_versions(),
    )


def fingerprint(site: Site, instruction: Instruction) -> Reply:
    """Count the training cases' spacing, extent, volume and intensity."""
    _must_train(site)
    return replace(_empty(site, instruction), fingerprints=site.fingerprints())


def prepare(site: Site, instruction: Instruction) -> Reply:
    """Prepare every case by its modality's plan; answer with counts a split and the reasons of what was left out."""
    started = time.perf_counter()
    for name in site.config.tasks:
        task_named(name).check()
    prepared = {name: site.prepare(name, _plan(instruction, name)) for name in site.config.modalities}
    by_split = {split: [case for own in prepared.values() for case in own[split]] for split in SPLITS}
    return replace(
        _empty(site, instruction),
        included={split: len(cases) for split, cases in by_split.items()},
        excluded=site.exclusion_counts(),
        over_policy=site.over_policy(),
        labelled=site.labelled({name: own["train"] for name, own in prepared.items()}),
        classes=site.classes([case for cases in by_split.values() for case in cases]),
        seconds=time.perf_counter() - started,
    )


def train(site: Site, instruction: Instruction) -> Reply:
    """Train a task's global model for one round on the site's training cases; answer with weights, cases and loss.

    Cases that cannot be opened are skipped; the answer then also counts those used by label. Where the server asks for
    it, the model is evaluated on the validation cases before it is trained, as `evaluate` does: it travels once for
    both. An evaluation that fails costs no training: the server then asks for it alone, and is told why.
    """
    _must_train(site)
    config, task = _view(site, instruction)
    plan = _plan(instruction, task.modality)
    # The hospital's policy bounds the run's rounds: there are no others.
    if not 1 <= instruction.round <= config.federation.rounds:
        raise UpdateError(f"round {instruction.round} is asked for, the run has {config.federation.rounds}")
    prepared = site.prepared(task.modality, plan)
    own = _empty(site, instruction)
    before = replace(instruction, round=instruction.round - 1)  # whose model it is
    if instruction.evaluating and prepared["validation"]:
        try:
            own = evaluate(site, replace(before, split="validation"))
        except Exception:
            log.exception("evaluation before round %d failed", instruction.round)
    cases, skipped = open_readable(task, prepared["train"], plan, config)
    _check_whole(site, skipped)
    site.policy.need_training({patient_of(case.key) for case in cases})
    model, sent, kept = _model(site, task, config, before)
    strategy, start = config.federation.algorithm, copy.deepcopy(model.state_dict())
    summary = train_round(
        model,
        cases,
        config,
        round_number=instruction.round,
        site=site.draws,
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
        sums=own.sums,
        evaluation_skipped=own.skipped,
        evaluation_seconds=own.seconds,
    )


def evaluate(site: Site, instruction: Instruction) -> Reply:
    """Evaluate the global model on one split; answer with sums."""
    started = time.perf_counter()
    config, task = _view(site, instruction)
    plan = _plan(instruction, task.modality)
    asked = _asked(site, site.prepared(task.modality, plan), instruction.split)
    cases = [case for case in asked if task.uses(case.labels, config)]
    model, _, _ = _model(site, task, config, instruction)
    if len(patients_of(cases)) < site.policy.least_patients:
        cases = []
    sums, skipped = evaluate_site(task, model, cases, plan, config, least=site.policy.least_patients)
    _check_whole(site, skipped)
    return replace(
        _empty(site, instruction),
        sums=sums,
        cases=sums.n,
        skipped=skipped,
        seconds=time.perf_counter() - started,
    )


def _must_train(site: Site) -> None:
    if site.name == site.config.data.external:
        raise UpdateError("this is the run's external centre: it evaluates and has no part in training")


def _check_whole(site: Site, skipped: int) -> None:
    """Refuse an answer without a few of its cases: beside one with all of them it would tell of those few."""
    if skipped and site.policy.guards_patients:
        raise RunError(f"{skipped} of its prepared cases are damaged: clear the site's cache, they are prepared again")


def _asked(site: Site, prepared: Prepared, split: str) -> list[PreparedCase]:
    """The cases to be evaluated: a training site's validation or test cases, all of an external centre's."""
    if site.name == site.config.data.external and split == "external":
        return [case for cases in prepared.values() for case in cases]
    if site.name != site.config.data.external and split in {"validation", "test"}:
        return prepared["validation" if split == "validation" else "test"]
    raise UpdateError(f"split '{split}' is not one a server may ask this site to evaluate")


def _empty(site: Site, instruction: Instruction) -> Reply:
    return Reply(site=site.name, run=instruction.run, round=instruction.round)


def _view(site: Site, instruction: Instruction) -> tuple[RunConfig, Task]:
    """The instruction's task, and the site's configuration as it sees it."""
    for name in site.config.tasks:
        if name == instruction.task:
            return site.config.for_task(name), task_named(name)
    raise UpdateError("the server asks for a task that the run does not have")


def _plan(instruction: Instruction, modality: str) -> Plan:
    if modality not in instruction.plans:
        raise UpdateError("the server sent no preprocessing plan")
    return instruction.plans[modality]


def _model(site: Site, task: Task, config: RunConfig, instruction: Instruction) -> tuple[nn.Module, State, State]:
    """The task's network after the instruction's round; the server's weights by name; what the strategy kept here.

    In the network stand the server's weights, and of what stays at the site its own.
    """
    with UnsetValues():
        model = task.learner.build_model(config)
    like = model.state_dict()
    if instruction.weights is None or instruction.manifest != manifest_of(like):
        raise UpdateError("the server's model has other names, shapes or types than this site's code builds")
    if not fits(instruction.weights):
        raise UpdateError(f"the server's model has values that are not numbers below {LARGEST_VALUE:.0f} in magnitude")
    sent = unflatten(instruction.weights, like)
    kept = SiteState(site.run, site.name, task.name).after(instruction.round)
    stays = config.federation.algorithm.stays_at_site
    model.load_state_dict(sent | {name: kept[name] for name in sent if stays(name) and name in kept})
    return model, sent, kept
