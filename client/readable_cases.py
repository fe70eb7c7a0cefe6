"""Prepared cases that can still be read: a damaged file costs its case, not the site's round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.config.run_config import RunConfig
from shared.evaluation import DAMAGED
from shared.modalities.modality import Plan, PreparedCase
from shared.tasks.task import Task

log = logging.getLogger(__name__)


def open_readable(
    task: Task, cases: Sequence[PreparedCase], plan: Plan, config: RunConfig
) -> tuple[Sequence[Any], int]:
    """Open a task's training cases, without those whose prepared files are damaged; also returns how many those are.

    One sample of each case is read, as the training loop will: its files are there and whole in length. Their bytes are
    not hashed again. The site's own log names the cases that are skipped by pseudonym.
    """
    try:
        return _open(task, cases, plan, config), 0
    except DAMAGED:
        # Which one it was is looked for only now: a sound site opens its cases once.
        readable = [case for case in cases if _is_readable(task, case, plan, config)]
    return _open(task, readable, plan, config), len(cases) - len(readable)


def _is_readable(task: Task, case: PreparedCase, plan: Plan, config: RunConfig) -> bool:
    try:
        _open(task, [case], plan, config)
    except DAMAGED as error:
        log.warning(
            "case %s is skipped: its prepared files cannot be opened (%s); clear the cache and prepare the site again",
            case.key,
            type(error).__name__,
        )
        return False
    return True


def _open(task: Task, cases: Sequence[PreparedCase], plan: Plan, config: RunConfig) -> Sequence[Any]:
    opened = task.learner.open(cases, plan, config)
    draws = np.random.default_rng(0)  # not the loop's own: looking must not change what is drawn
    for case in opened:
        task.learner.sample(case, config, draws)
    return opened
