"""FedAdam (Reddi 2021, algorithm 2): Adam at the server, on the mean's distance from the global model.

The moments' bias is corrected as by Kingma 2015, section 2.1, which algorithm 2 leaves out and Flower's FedAdam does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from shared.config.sections import Fraction
from shared.strategies.strategy import ServerState, Strategy
from shared.types import FloatArray


class FedAdam(Strategy):
    """FedAvg with an adaptive step at the server."""

    title: ClassVar[str] = "FedAdam"
    former_keys: ClassVar[Mapping[str, str]] = {
        "server_learning_rate": "learning_rate",
        "server_beta_1": "beta_1",
        "server_beta_2": "beta_2",
        "server_tau": "tau",
    }

    learning_rate: float = Field(default=0.01, gt=0.0, le=10.0, description="The server's step, eta.")
    beta_1: Annotated[Fraction, Field(description="Share of the first moment that is kept.")] = 0.9
    beta_2: Annotated[Fraction, Field(description="Share of the second moment that is kept.")] = 0.99
    tau: float = Field(
        default=1e-3, gt=0.0, le=10.0, description="Degree of adaptability: the least divisor of a step."
    )

    def server_step(
        self, current: FloatArray, mean: FloatArray, round_number: int, state: ServerState
    ) -> tuple[FloatArray, ServerState]:
        """One step of Adam; `state` holds the moments `m` and `v`. Computed in float64, kept in float32."""
        change = mean.astype(np.float64) - current
        m = self.beta_1 * state.get("m", np.float32(0)) + (1 - self.beta_1) * change
        v = self.beta_2 * state.get("v", np.float32(0)) + (1 - self.beta_2) * change**2
        rate = self.learning_rate * np.sqrt(1 - self.beta_2**round_number) / (1 - self.beta_1**round_number)
        stepped = current + rate * m / (np.sqrt(v) + self.tau)
        return stepped.astype(np.float32), {"m": m.astype(np.float32), "v": v.astype(np.float32)}


STRATEGY = FedAdam
