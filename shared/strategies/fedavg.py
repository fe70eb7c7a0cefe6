"""FedAvg (McMahan 2017, algorithm 1): the weighted mean of the sites' weights is the new global model."""

from __future__ import annotations

from typing import ClassVar

from shared.strategies.strategy import Strategy


class FedAvg(Strategy):
    """The plain mean; it has no settings."""

    title: ClassVar[str] = "FedAvg"


STRATEGY = FedAvg
