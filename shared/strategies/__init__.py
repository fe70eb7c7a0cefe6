"""The table of the federation's strategies: to add one, write its file and name it here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.strategies.strategy import Strategy

STRATEGIES = {
    "fedavg": "shared.strategies.fedavg",
    "fedprox": "shared.strategies.fedprox",
    "fedadam": "shared.strategies.fedadam",
    "fedbn": "shared.strategies.fedbn",
}
"""Module of each strategy by the name that configurations use; it holds the class as `STRATEGY`."""


def strategy_named(name: str) -> type[Strategy]:
    """Return a strategy by the name that configurations use.

    Raises
    ------
    ConfigError
        There is no such strategy.

    """
    if name not in STRATEGIES:
        raise ConfigError(f"there is no strategy '{name}'; there are {', '.join(STRATEGIES)}")
    strategy: type[Strategy] = import_module(STRATEGIES[name]).STRATEGY
    return strategy
