"""The sections on how a run or a study is carried out: rounds, cores, tracking, folds and arms."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from shared.config.sections import Rounds, Section, SiteName, Workers
from shared.config.strict_toml import validated
from shared.errors import ConfigError
from shared.strategies import STRATEGIES, strategy_named
from shared.strategies.strategy import Strategy


class FederationConfig(Section):
    """The rounds and who must take part; each strategy has a table of its own in it, `[federation.NAME]`."""

    rounds: Rounds = Field(default=10, description="Of each segmentation task; a classifier's section has its own.")
    strategy: str = Field(
        default="fedavg", max_length=64, description="How the sites' updates become the next global model."
    )
    min_sites: int = Field(
        default=1, ge=1, le=1000, description="Fewer good replies than this end the run with an error."
    )
    round_timeout_s: float = Field(
        default=3600.0,
        gt=0.0,
        le=30 * 86400.0,
        description="A site that has not evaluated and trained by then is absent this round.",
    )
    join_timeout_s: float = Field(
        default=120.0,
        gt=0.0,
        le=30 * 86400.0,
        description="How long sites may take to connect; others wait no longer for one that joins.",
    )
    evaluate_every: Rounds = Field(
        default=1, description="Rounds from one evaluation on validation cases to the next; the last is always one."
    )
    retries: int = Field(
        default=1, ge=0, le=100, description="How often a site that failed or was refused is asked once more."
    )
    left_out_after: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Rounds in a row; a site that kept the others waiting so often is left out until it answers again.",
    )
    _tables: dict[str, Strategy] = PrivateAttr(default_factory=dict)

    def evaluates(self, number: int) -> bool:
        """Whether the model of round `number` is evaluated on the sites' validation cases."""
        return number > 0 and (number % self.evaluate_every == 0 or number == self.rounds)

    @property
    def algorithm(self) -> Strategy:
        """The run's strategy, with its settings."""
        return self._tables.get(self.strategy) or strategy_named(self.strategy)()

    @classmethod
    def parse(cls, raw: Any, source: str) -> FederationConfig:
        """Check the section, and each strategy's table by the class that its file declares.

        `ConfigError` where a key is unknown, missing or out of range, or is given under its former name as well.
        """
        if not isinstance(raw, dict):
            return validated(cls, raw, source, "federation")
        rest, tables = dict(raw), {}
        for name in STRATEGIES:
            kind, table = strategy_named(name), rest.pop(name, {})
            for former, key in kind.former_keys.items():
                if former in rest and key in table:
                    raise ConfigError(f"{source}: 'federation.{former}' is now 'federation.{name}.{key}': give it once")
                if former in rest:
                    table = {**table, key: rest.pop(former)}
            tables[name] = validated(kind, table, source, f"federation.{name}")
        return validated(cls, rest, source, "federation").with_tables(tables)

    def with_tables(self, tables: Mapping[str, Strategy]) -> FederationConfig:
        """Take these settings of strategies, by name; return the section itself."""
        self._tables.update(tables)
        return self

    @model_serializer(mode="wrap")
    def _with_table(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table = self.algorithm.model_dump(mode="json")
        return {**handler(self), **({self.strategy: table} if table else {})}

    @field_validator("strategy")
    @classmethod
    def _a_strategy(cls, name: str) -> str:
        if name not in STRATEGIES:
            near = difflib.get_close_matches(name, list(STRATEGIES), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(STRATEGIES)}"
            raise ValueError(f"'{name}' is no strategy; {hint}")
        return name


class ComputeConfig(Section):
    """Cores; clients x threads <= cores."""

    threads: Workers = Field(default=1, description="torch threads a client: part of what makes bytes reproducible.")
    server_workers: Workers = Field(default=1, description="Studies of the external centre prepared at once.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    loader_workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processes that prepare a client's batches; the same bytes with any number but 0, which prepares "
        "them in the training process, in one stream of draws. Never more than there are cores.",
    )
    prefetch: int = Field(default=2, ge=1, le=64, description="Batches that each of these processes keeps ready.")
    channels_last: bool = Field(default=False, description="Keep a voxel's channels side by side in memory.")
    gpu_memory_gb: float | None = Field(
        default=None,
        gt=0.0,
        le=1000.0,
        description="10^9 bytes of a GPU that a simulated site takes: as many train at once as fit, the others wait. "
        "None: all at once.",
    )


class TrackingConfig(Section):
    """Whether MLflow is told of the run; needs the extra `tracking`."""

    mlflow: bool = False
    uri: str = Field(
        default="",
        max_length=2000,
        description="Address of an MLflow server; empty: `runs/mlflow.db`, with `runs/mlflow-artifacts`.",
    )
    experiment: str = Field(default="fedbreast", min_length=1, max_length=100)

    @field_validator("uri")
    @classmethod
    def _a_server_without_its_password(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if uri and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("is no address of an MLflow server: http(s)://HOST:PORT, or empty for a file in runs/")
        if "@" in parts.netloc or parts.query:
            # The configuration travels to the sites and stands in the report.
            raise ValueError(
                "holds a password: put it into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            )
        return uri


class StudyConfig(Section):
    """Every centre is left out once; each arm trains on the others and is evaluated on the one left out."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        default=(0,), min_length=1, max_length=1000, description="Training seeds; the data keep theirs."
    )
    arms: tuple[Literal["local", "federated", "pooled", "ensemble"], ...] = Field(
        default=("local", "federated", "pooled", "ensemble"),
        min_length=1,
        max_length=4,
        description="local: each centre alone; pooled: all data in one place; ensemble: mean of the local predictions.",
    )
    held_out: tuple[SiteName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Centres to leave out, one at a time; none: every centre.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> StudyConfig:
        for name in ("seeds", "arms", "held_out"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"study.{name} names one twice")
        if "ensemble" in self.arms and "local" not in self.arms:
            raise ValueError("study.arms: the ensemble is the mean of the local models: add 'local'")
        return self
