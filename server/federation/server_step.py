"""A round's step at the server: parameters by the run's strategy, buffers always by the mean of the updates.

Running means and variances are measured, not learnt: an optimiser's step would tear them from what the sites measured.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from shared.strategies.strategy import ServerState, Strategy
from shared.types import BoolArray, FloatArray


def parameter_places(model: nn.Module) -> BoolArray:
    """Which values of the flat array, `(n,)`, are parameters; the others are buffers. Order as `payload.flatten`."""
    names = {name for name, _ in model.named_parameters()}
    return np.concatenate([np.full(value.numel(), name in names) for name, value in sorted(model.state_dict().items())])


def server_step(
    strategy: Strategy,
    parameters: BoolArray,
    current: FloatArray,
    mean: FloatArray,
    round_number: int,
    state: ServerState,
) -> tuple[FloatArray, ServerState]:
    """The new global model as a flat array and the strategy's new state; see `Strategy.server_step`.

    `current` is the model before the round and `mean` the updates' weighted mean, float32 `(n,)`, with buffers;
    `parameters` comes from `parameter_places`.
    """
    new = mean.copy()
    new[parameters], state = strategy.server_step(current[parameters], mean[parameters], round_number, state)
    return new, state
