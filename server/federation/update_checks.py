"""The gate: what an answer must be before it may be averaged. One bad site must not end a run, nor bend its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.federation.update_reach import Reach
from shared.errors import UpdateError
from shared.messages.instruction_reply import Reply
from shared.messages.payload import label_key
from shared.metrics.metric import check_figures
from shared.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Expected:
    """What the server knows of the answer it waits for.

    Attributes
    ----------
    site
        Who was asked.
    run, round, manifest
        For which run and round, and of which model.
    cases
        How many cases the site registered when it prepared: to train on, or of the split that is evaluated.
    reach
        How far the weights may lie from the model that was sent; None where none are expected.
    labels
        How many of the training cases have each label that owns parameters.

    """

    site: str
    run: str
    round: int
    manifest: str = ""
    cases: int = 0
    reach: Reach | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


def check_error(_site: str, reply: Reply) -> None:
    """Raise `UpdateError` where the site reports a failure."""
    if reply.error:
        raise UpdateError(f"the site could not do it: {reply.error}")


def check_answer(reply: Reply, expected: Expected) -> None:
    """Check who answers what: any kind of message.

    `UpdateError` where the site reports a failure, or the answer belongs to another site, run or round.
    """
    check_error(expected.site, reply)
    if reply.site != expected.site:
        raise UpdateError(f"answers as '{reply.site[:32]}', but '{expected.site}' was asked")
    if reply.run != expected.run or reply.round != expected.round:
        raise UpdateError(f"answers round {reply.round}, but round {expected.round} of this run was asked (a replay?)")


def check_update(reply: Reply, expected: Expected) -> None:
    """Check a trained update; see `check_answer` for what comes first.

    `UpdateError` for another model, another number of values, a value that is not finite, too large for the average or
    further from the model that was sent than a round can move it, or another number of cases than registered.
    """
    check_answer(reply, expected)
    if reply.weights is None or expected.reach is None:
        raise UpdateError("the answer holds no weights")
    if reply.manifest != expected.manifest:
        raise UpdateError("names, shapes or types differ from the model's")
    if reply.weights.shape != expected.reach.start.shape:
        raise UpdateError(f"weights have shape {reply.weights.shape}, the model has {len(expected.reach.start)} values")
    expected.reach.check(reply.weights)
    if reply.cases <= 0 or reply.skipped < 0 or reply.cases + reply.skipped != expected.cases:
        skipped = f" and {reply.skipped} skipped" if reply.skipped else ""
        raise UpdateError(f"claims {reply.cases} cases{skipped}, {expected.cases} were registered")
    if not math.isfinite(reply.loss):
        raise UpdateError("the loss is not a number")


def check_sums(reply: Reply, expected: Expected, task: Task) -> None:
    """Check an evaluation; see `check_answer` for what comes first.

    `UpdateError` for no sums, for sums of other cases than the site has, and for such as no cases can have, or of which
    a report's figures cannot be made.
    """
    check_answer(reply, expected)
    if reply.sums is None:
        raise UpdateError("the answer holds no sums")
    if reply.skipped < 0 or not 0 <= reply.sums.n <= expected.cases - reply.skipped:
        raise UpdateError(f"evaluates {reply.sums.n} cases, {reply.skipped} skipped, of {expected.cases} registered")
    try:
        check_figures(task.metrics, reply.sums)
        task.choice.of(reply.sums)
        for metric in task.metrics:
            metric.estimate(reply.sums, 0.95)
    except Exception as error:
        told = error if isinstance(error, ValueError) else type(error).__name__
        raise UpdateError(f"evaluates to what cannot be: {told}") from error


def weighed_cases(reply: Reply, expected: Expected, task: str) -> dict[str, int]:
    """Cases by label that a checked update counts with, "" for those the task uses.

    Those registered, unless the site skipped some: then those it says it used. `UpdateError` where it claims more cases
    of a label than it registered, or more of them skipped than it skipped.
    """
    counts = {"": reply.cases} | dict(expected.labels)
    if reply.skipped:
        for label, registered in expected.labels.items():
            used = (reply.labelled or {}).get(label_key(task, label), -1)
            if not max(0, registered - reply.skipped) <= used <= min(registered, reply.cases):
                raise UpdateError(f"claims {used} cases with {label}, {registered} were registered")
            counts[label] = used
    return counts
