"""The hospital's policy: what it allows a run, whatever the server says. It comes from the kit through the node."""

from __future__ import annotations

from collections.abc import Mapping

from shared.config.run_config import RunConfig
from shared.errors import ConfigError


def check_policy(node_config: Mapping[str, object], config: RunConfig) -> None:
    """Refuse a run that the hospital's policy does not allow; `config` is as the server sent it.

    Parameters
    ----------
    node_config
        The node's configuration: `data-dir`, `tasks` (separated by commas; empty: all), `max-rounds`,
        `differential-privacy`. A simulated node has none of them.

    Raises
    ------
    ConfigError
        The policy forbids a task, the number of rounds, or training without differential privacy; or the run names a
        file of pretrained weights: a hospital opens no path that the server names.

    """
    if "data-dir" in node_config and (keys := config.keys_of_files()):
        raise ConfigError(f'{", ".join(keys)} names a file, and a hospital opens none: set it to "none"')
    allowed = [name for name in str(node_config.get("tasks", "")).split(",") if name]
    if allowed and (other := [name for name in config.tasks if name not in allowed]):
        raise ConfigError(f"this hospital's policy does not allow {', '.join(other)}, only {', '.join(allowed)}")
    most = int(str(node_config.get("max-rounds", 0)))
    rounds = max(config.for_task(name).federation.rounds for name in config.tasks)
    if most and rounds > most:
        raise ConfigError(f"the run has {rounds} rounds, this hospital's policy allows {most}")
    if node_config.get("differential-privacy"):
        raise ConfigError(
            "this hospital takes part only in runs that train with differential privacy, which this version cannot"
        )
