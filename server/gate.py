"""The gate: what an answer must be before it may be averaged. One bad site must not end a run, nor bend its model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.errors import UpdateError
from shared.messages import Reply


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
        How many training cases the site registered when it prepared.
    values
        Length of the flat array of weights.

    """

    site: str
    run: str
    round: int
    manifest: str = ""
    cases: int = 0
    values: int = 0


def check_answer(reply: Reply, expected: Expected) -> None:
    """Check who answers what: any kind of message.

    Raises
    ------
    UpdateError
        The site reports a failure, or the answer belongs to another site, run or round.

    """
    if reply.error:
        raise UpdateError(f"the site could not do it: {reply.error}")
    if reply.site != expected.site:
        raise UpdateError(f"answers as '{reply.site[:32]}', but '{expected.site}' was asked")
    if reply.run != expected.run or reply.round != expected.round:
        raise UpdateError(f"answers round {reply.round}, but round {expected.round} of this run was asked (a replay?)")


def check_update(reply: Reply, expected: Expected) -> None:
    """Check a trained update; see `check_answer` for what comes first.

    Raises
    ------
    UpdateError
        Another model, another number of values, a value that is not finite, or another number of cases than registered.

    """
    check_answer(reply, expected)
    if reply.weights is None:
        raise UpdateError("the answer holds no weights")
    if reply.manifest != expected.manifest:
        raise UpdateError("names, shapes or types differ from the model's")
    if reply.weights.shape != (expected.values,):
        raise UpdateError(f"weights have shape {reply.weights.shape}, the model has {expected.values} values")
    if not np.isfinite(reply.weights).all():
        share = 1 - float(np.isfinite(reply.weights).mean())
        raise UpdateError(f"weights are not finite ({share:.2%} of the values)")
    if reply.cases <= 0 or reply.cases != expected.cases:
        raise UpdateError(f"claims {reply.cases} cases, {expected.cases} were registered")
    if not math.isfinite(reply.loss):
        raise UpdateError("the loss is not a number")
