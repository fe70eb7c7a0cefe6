"""Prepared cases that can still be opened: a damaged file costs its case, not the site's round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from shared.config.run_config import RunConfig
from shared.errors import StudyError
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.plan import Plan
from shared.preprocessing.store import open_array
from shared.preprocessing.tissues import open_tissues
from shared.tasks import Task

log = logging.getLogger(__name__)

DAMAGED = (OSError, ValueError, EOFError, StudyError)
"""What a lost, empty, truncated or overwritten file of the cache raises."""


def open_sound(task: Task, cases: Sequence[CachedCase], plan: Plan, config: RunConfig) -> tuple[Sequence[Any], int]:
    """Open a task's cases, without those whose prepared files are damaged.

    Files are opened, which checks that each is there and whole in length; their bytes are not hashed again.

    Parameters
    ----------
    task, plan, config
        What the cases are opened for.
    cases
        The site's prepared cases, in their order.

    Returns
    -------
    The cases as the task opens them, and how many were skipped. The site's own log names those by pseudonym.

    """
    try:
        return _open(task, cases, plan, config), 0
    except DAMAGED:
        # Which one it was is looked for only now: a sound site opens its cases once.
        sound = [case for case in cases if _is_sound(task, case, plan, config)]
    return _open(task, sound, plan, config), len(cases) - len(sound)


def _is_sound(task: Task, case: CachedCase, plan: Plan, config: RunConfig) -> bool:
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


def _open(task: Task, cases: Sequence[CachedCase], plan: Plan, config: RunConfig) -> Sequence[Any]:
    opened = task.open(cases, plan, config)
    for case in opened:
        _touch(task, case)
    return opened


def _touch(task: Task, case: Any) -> None:
    """Open what the loop would open later."""
    if task.kind == "classification":
        _ = case.patch
        return
    _ = case.image, case.mask, case.foreground
    open_array(case.folder, "native_mask")
    if task.kind == "tissues":
        open_tissues(case)
