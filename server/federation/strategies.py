"""The server's step after the average: none (FedAvg, FedProx) or Flower's own FedAdam.

FedProx (Li 2020) differs from FedAvg in the sites' loss only. FedAdam (Reddi 2021, algorithm 2) takes the average's
distance from the global model as a gradient; Flower's class does it, fed with the one average that passed the gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam

from shared.config.execution import FederationConfig
from shared.types import FloatArray

Moments = Mapping[str, FloatArray]
"""The optimiser's running moments, `m` and `v`, flat float32; empty where there are none. The journal keeps them."""


@dataclass(frozen=True, slots=True)
class Average:
    """FedAvg and FedProx: the average is the new global model."""

    def step(
        self, current: FloatArray, average: FloatArray, round_number: int, moments: Moments
    ) -> tuple[FloatArray, Moments]:
        """Return the new global weights and moments."""
        del current, round_number
        return average, moments


@dataclass(frozen=True, slots=True)
class Adam:
    """FedAdam by Flower; the moments are handed in and out, so that a resumed run is the same run."""

    config: FederationConfig
    _key: str = field(default="flat", init=False)

    def step(
        self, current: FloatArray, average: FloatArray, round_number: int, moments: Moments
    ) -> tuple[FloatArray, Moments]:
        """Return the new global weights and moments; float32 again, as Flower computes in float64."""
        strategy = FedAdam(
            eta=self.config.server_learning_rate,
            beta_1=self.config.server_beta_1,
            beta_2=self.config.server_beta_2,
            tau=self.config.server_tau,
        )
        strategy.current_arrays = {self._key: current}
        if moments:
            strategy.m_t, strategy.v_t = {self._key: moments["m"]}, {self._key: moments["v"]}
        content = RecordDict(
            {
                "arrays": ArrayRecord({self._key: Array(average)}),
                "metrics": MetricRecord({"num-examples": 1}),
            },
        )
        reply = Message(content, dst_node_id=0, message_type="train")
        # Rounds count from 1, and Flower corrects the bias of the moments by round + 1: told the round before, it uses
        # the exponent of Kingma and Ba 2015.
        arrays, _ = strategy.aggregate_train(round_number - 1, [reply])
        assert arrays is not None  # noqa: S101 - one valid reply always aggregates
        assert strategy.m_t is not None and strategy.v_t is not None  # noqa: S101, PT018 - set by the call above
        return (
            arrays[self._key].numpy().astype(np.float32),
            {"m": strategy.m_t[self._key].astype(np.float32), "v": strategy.v_t[self._key].astype(np.float32)},
        )


def strategy_for(config: FederationConfig) -> Average | Adam:
    """The server's step of a configuration."""
    return Adam(config) if config.strategy == "fedadam" else Average()
