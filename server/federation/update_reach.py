"""How far an update may lie from the model that was sent: as far as a round of the training loop can go, no further.

So a site moves a parameter of the mean from the global model by at most its share of the cases times this reach,
whatever it sends. Buffers are not learnt but counted: a variance is not negative, a counter of batches goes on by the
round's steps at most, and a mean is only as small as the average needs, because nothing says what the images hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from server.federation.averaging import BLOCK, blocks_of, check_values, owned_parts
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.payload import LARGEST_VALUE, fits
from shared.training import reach
from shared.types import FloatArray

PARAMETER, VARIANCE, COUNTER = "parameter", "running_var", "num_batches_tracked"
"""Kinds of values: parameters, and buffers by the last part of their names, as torch's layers have them."""

Parts = Sequence[tuple[range, str]]


def parts_of(model: nn.Module) -> Parts:
    """Stretches of a model's flat array, each with its kind."""
    learnt = {name for name, _ in model.named_parameters()}
    return owned_parts(model.state_dict(), lambda name: PARAMETER if name in learnt else name.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Reach:
    """The bounds of a round's updates; made by `of`.

    Attributes
    ----------
    start, parts
        The model that was sent, float32 `(n,)`, and `parts_of` it.
    bounded
        Whether what is near enough to it is always small enough for the average.
    step, share
        From `shared.training.reach`.
    steps
        Of the round.

    """

    start: FloatArray
    parts: Parts
    bounded: bool
    step: float
    share: float
    steps: int
    _changes: FloatArray = field(default_factory=lambda: np.empty(BLOCK, np.float32))

    @classmethod
    def of(cls, start: FloatArray, parts: Parts, config: RunConfig, round_number: int) -> Reach:
        """The reach of a task's round, from the task's view of the configuration."""
        step, share = reach(config, round_number)
        largest = max(float(start.max()), -float(start.min()))
        bounded = largest * (1 + share) + step < LARGEST_VALUE
        return cls(start, parts, bounded, step, share, config.training.steps_per_round)

    def check(self, weights: FloatArray) -> None:
        """Check an update `(n,)` in blocks, without an array of its size.

        `UpdateError` where `check_values` raises it, and for what no round can make of the model that was sent.
        """
        for part, kind in self.parts:
            for place in blocks_of(part):
                if not self._is_within(weights[place], self.start[place], kind):
                    check_values(weights)  # what is worse is told first
                    raise UpdateError(self._why(weights[place], self.start[place], kind))

    def _is_within(self, values: FloatArray, start: FloatArray, kind: str) -> bool:
        if not (kind == PARAMETER and self.bounded) and not fits(values):
            return False
        if kind == VARIANCE:
            return bool(values.min() >= 0)
        if kind == COUNTER:  # half a step is float32's rounding
            return bool((values >= start).all() and (values <= start + (self.steps + 0.5)).all())
        if kind != PARAMETER:
            return True
        changes = np.subtract(values, start, out=self._changes[: len(values)])
        if changes.max() <= self.step and changes.min() >= -self.step:
            return True
        return bool((np.abs(changes) <= self.step + self.share * np.abs(start)).all())

    def _why(self, values: FloatArray, start: FloatArray, kind: str) -> str:
        if kind == VARIANCE:
            return f"a running variance is negative ({float(values.min()):.3g})"
        if kind == COUNTER:
            return f"a counter of batches went from {start[0]:.0f} to {values[0]:.0f} in a round of {self.steps} steps"
        changes, most = np.abs(values - start), self.step + self.share * np.abs(start)
        worst = int(np.argmax(changes / most))
        return (
            f"a parameter lies {changes[worst]:.3g} from the model that was sent, {self.steps} steps of this run's "
            f"training move it by at most {most[worst]:.3g}: the site trains otherwise than the configuration says"
        )
