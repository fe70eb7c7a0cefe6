"""What a run will need later, looked at before its first task trains: labels, memory, disk, the external centre."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from server.federation.participants import Participants
from server.run_folder.journal import RunFolder
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.models.uninitialised import UnsetValues
from shared.runtime.machine import free_disk_mb
from shared.runtime.project import project_root
from shared.site import run_cohort
from shared.site_facts import site_facts
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)

_FLOAT = 4
_COPIES = 5
"""Of a network, that training holds at the least: weights, gradient, two moments, the round's start."""


def check_tasks(participants: Participants, tasks: Iterable[str], labelled: Mapping[str, Mapping[str, int]]) -> None:
    """Check that each of these tasks has enough sites that can train it.

    `labelled` are the counts of each site that is there, by task, as registered or as prepared; what a site does not
    tell is no obstacle. `RunError`, in one line, says which task has too few, why each site cannot, and the remedy.
    """
    config, facts = participants.config, participants.facts
    for name in tasks:
        task = task_named(name)
        needed = _COPIES * _FLOAT * _values(task, config.for_task(name)) // 10**6
        reasons = {site: entry.reason for site, entry in participants.lost.items()}
        for site, counts in labelled.items():
            free = facts[site].memory_mb if site in facts else 0
            if counts.get(name, 1) == 0:
                reasons[site] = f"none of its cases has {_wanted(task, config)}"
            elif 0 < free < needed:
                reasons[site] = f"training needs {needed} MB of memory, {free} MB are free"
        able, sites, least = labelled.keys() - reasons.keys(), config.data.sites, config.federation.min_sites
        if len(able) < least:
            told = "; ".join(f"{site}: {reasons[site]}" for site in sites if site in reasons)
            raise RunError(
                f"{len(able)} of {len(sites)} sites can take part in {name}, federation.min_sites is {least} ({told}): "
                f"mend that at the sites, or take {name} out of 'tasks'"
            )


def check_disk(folder: RunFolder, config: RunConfig) -> None:
    """Check that the models of all rounds that are still to come have room in the run's folder; `RunError` if not."""
    needed = 0
    for name in config.tasks:
        view = config.for_task(name)
        rounds = view.federation.rounds - max((item.round for item in folder.records(name)), default=-1)
        needed += rounds * _values(task_named(name), view) * _FLOAT // 10**6
    free = free_disk_mb(folder.path)
    if 0 < free < needed:
        raise RunError(
            f"no space for the run's models below runs/{folder.path.name}: they take {needed} MB, {free} MB are free; "
            "free some, or ask for fewer rounds"
        )


def external_folder_is_here(config: RunConfig) -> bool:
    """Whether the external centre's folder lies on this machine, as in a simulation."""
    return config.data.external is not None and (project_root() / config.data.root / config.data.external).is_dir()


def check_external(participants: Participants, *, begun: bool) -> None:
    """Check that the external centre can evaluate: at its own node, or in its folder here.

    Once rounds are committed (`begun`), a node that is away now may be back by the end. `RunError` where there is
    neither node nor folder, or no usable case; `SiteError` where the folder cannot be used.
    """
    config, centre = participants.config, participants.config.data.external
    if centre is None or (begun and centre not in participants.nodes and not external_folder_is_here(config)):
        return
    remedy = "or take it out of data.external"
    if centre not in participants.nodes:
        folder = project_root() / config.data.root / centre
        if not folder.is_dir():
            raise RunError(f"the external centre '{centre}' has no node and no folder here: start its node, {remedy}")
        if not run_cohort(folder, config).cases:
            raise RunError(f"the external centre '{centre}' has no usable case: run `fedbreast check` on it, {remedy}")
        participants.facts[centre] = site_facts(folder, config)
        participants.folder.write_facts(participants.facts)
    facts = participants.facts.get(centre)
    if facts is None:
        raise RunError(f"the external centre '{centre}' cannot read its folder: see the log at its node, {remedy}")
    empty = [name for name in config.tasks if facts.labelled.get(name, 1) == 0]
    told = "; ".join(f"{name}: none of its cases has {_wanted(task_named(name), config)}" for name in empty)
    if empty:
        log.warning("the external centre '%s' will have no figures of some tasks (%s)", centre, told)


def _wanted(task: Task, config: RunConfig) -> str:
    labels = " or ".join(label.name for label in task.labels)
    outline = " and an outline of the lesion" if "lesion" in task.needs(config.for_task(task.name)) else ""
    return f"{labels}{outline}" if labels else "the reference masks"


def _values(task: Task, view: RunConfig) -> int:
    """How many numbers a task's network consists of."""
    with UnsetValues(files=True):  # a missing file of pretrained weights is told before anything trains
        return sum(value.numel() for value in task.learner.build_model(view).state_dict().values())
