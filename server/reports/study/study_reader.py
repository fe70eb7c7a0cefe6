"""What a study's report reads from the study's folder, checked: nothing else enters the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from server.run_folder.predictions import read_predictions
from server.run_folder.study_tables import StudyTables, read_tables
from shared.config.run_config import RunConfig, load_config
from shared.errors import RunError

_T = TypeVar("_T")
_CURVES = {"task", "held_out", "arm", "seed", "round", "loss", "score", "n"}
_COHORT = {"case", "patient", "centre", "reference_volume_ml"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class StudyProvenance(_Part):
    """What made the study; `plans` by held-out centre, `data` by centre, both hashes."""

    name: str
    created: AwareDatetime
    git: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    phantom: bool
    seconds: float = 0.0
    machine: dict[str, Any] = Field(default_factory=dict)
    plans: dict[str, str] = Field(default_factory=dict)
    data: dict[str, str] = Field(default_factory=dict)


class Cell(_Part):
    """One trained model."""

    task: str
    held_out: str
    arm: str
    seed: int
    model_hash: str
    best_round: int
    rounds: int
    seconds: float


class Opened(_Part):
    """When a held-out centre was read, and the models that were frozen by then."""

    at: AwareDatetime
    models: tuple[str, ...]


class CentreFlow(_Part):
    """A centre's cases: left out by reason, taken in by split."""

    included: int
    excluded: dict[str, int] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)

    @property
    def found(self) -> int:
        """Cases in the centre's table."""
        return self.included + sum(self.excluded.values())


class Study(BaseModel):
    """Everything the page says.

    Attributes
    ----------
    config_text
        `study.toml` as it stands in the folder.
    centres, held_out
        All centres, and those held out in turn, both in the configuration's order.
    thresholds
        By task, model and label; frozen on validation cases.
    predictions
        Every judged case, by task.
    tables
        What the statistics made of them: the only source of numbers.

    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    path: Path
    config: RunConfig
    config_text: str
    provenance: StudyProvenance
    cells: tuple[Cell, ...]
    opened: dict[str, Opened]
    flow: dict[str, CentreFlow]
    curves: pd.DataFrame
    cohort: pd.DataFrame
    thresholds: dict[str, dict[str, dict[str, float | None]]]
    predictions: dict[str, pd.DataFrame]
    tables: StudyTables

    @property
    def centres(self) -> tuple[str, ...]:
        """Every centre."""
        return self.config.centres

    @property
    def held_out(self) -> tuple[str, ...]:
        """The folds."""
        return self.config.study.held_out or self.config.centres

    @property
    def tasks(self) -> list[str]:
        """Tasks that were judged, in the order of training."""
        return [name for name in self.config.tasks if name in self.predictions]

    @property
    def phantom(self) -> bool:
        """Whether any centre's data are phantoms."""
        return self.provenance.phantom

    @property
    def subject(self) -> str:
        """What was judged, for captions."""
        return "phantom cases" if self.phantom else "cases"

    @property
    def confidence(self) -> str:
        """Level of the intervals, in words."""
        return f"{self.config.evaluation.confidence:.0%}"


def read_study(folder: Path) -> Study:
    """Read a finished study's folder.

    Raises
    ------
    RunError
        A file is missing or damaged; the message names it.
    ConfigError
        `study.toml` is not a configuration.

    """
    config = load_config(folder / "study.toml")
    stored = [name for name in config.tasks if (folder / "predictions" / f"{name}.parquet").is_file()]
    if not stored:
        raise RunError(f"{folder.name}/predictions holds no task's cases: did the study finish?")
    return Study(
        path=folder,
        config=config,
        config_text=(folder / "study.toml").read_text(encoding="utf-8"),
        provenance=_json(folder, "provenance.json", StudyProvenance),
        cells=_json(folder, "cells.json", tuple[Cell, ...]),
        opened=_json(folder, "opened.json", dict[str, Opened]),
        flow=_json(folder, "flow.json", dict[str, CentreFlow]),
        curves=_table(folder, "curves.parquet", _CURVES),
        cohort=_table(folder, "cohort.parquet", _COHORT),
        thresholds=_json(folder, "thresholds.json", dict[str, dict[str, dict[str, float | None]]]),
        predictions={name: read_predictions(folder, name) for name in stored},
        tables=read_tables(folder),
    )


def _json(folder: Path, name: str, kind: type[_T]) -> _T:
    try:
        return TypeAdapter(kind).validate_json((folder / name).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{folder.name}/{name} cannot be read ({error})") from error


def _table(folder: Path, name: str, needed: set[str]) -> pd.DataFrame:
    try:
        table = pd.read_parquet(folder / name)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder.name}/{name} cannot be read") from error
    if missing := needed - set(table.columns):
        raise RunError(f"{folder.name}/{name} lacks {', '.join(sorted(missing))}")
    return table
