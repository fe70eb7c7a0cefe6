"""A finished study's folder, read and checked: what its statistics, page and model card start from, and nothing else.

`server.studies.collect` writes these files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from server.run_folder.format import check_format, read_json
from server.run_folder.predictions import WHO, predictions_path
from server.run_folder.study_tables import StudyTables, read_tables
from shared.cohort.labels import COLUMNS, SUBTYPE_LABELS, Label
from shared.config.run_config import RunConfig, load_config
from shared.errors import RunError
from shared.tasks import task_named
from shared.tasks.task import Task

CONFIG = "study.toml"

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
    phantom_sites: tuple[str, ...] = ()
    seconds: float = 0.0
    machine: dict[str, Any] = Field(default_factory=dict)
    plans: dict[str, str] = Field(default_factory=dict)
    data: dict[str, str] = Field(default_factory=dict)


class ModelEntry(_Part):
    """One trained model, an entry of `cells.json`."""

    task: str
    held_out: str
    arm: str
    seed: int
    model_hash: str
    best_round: int
    rounds: int
    seconds: float


class Opening(_Part):
    """When a held-out centre was read, and the models that were frozen by then."""

    at: AwareDatetime
    models: tuple[str, ...]


class CentreFlow(_Part):
    """A centre's cases: left out by reason, taken in by split."""

    included: int
    excluded: dict[str, int] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)

    @property
    def listed(self) -> int:
        """Cases in the centre's table."""
        return self.included + sum(self.excluded.values())


@dataclass(frozen=True)
class FinishedStudy:
    """Everything that is told of a study.

    Attributes
    ----------
    path, config, config_text
        Its folder, and `study.toml` as read and as it stands there.
    provenance, models, openings, flow
        What made it, every trained model, and by centre when it was opened and what became of its cases.
    curves
        One row for each model and round: `task, held_out, arm, seed, round, loss, score, n`.
    cohort
        One row for each case: what figures are stratified by, and the labels.
    predictions
        The per-case table of each task: all evaluated cases.

    """

    path: Path
    config: RunConfig
    config_text: str
    provenance: StudyProvenance
    models: tuple[ModelEntry, ...]
    openings: dict[str, Opening]
    flow: dict[str, CentreFlow]
    curves: pd.DataFrame
    cohort: pd.DataFrame
    predictions: dict[str, pd.DataFrame]

    @cached_property
    def tables(self) -> StudyTables:
        """What the statistics made of it: the only source of numbers on page and card.

        `RunError` where a table is missing or damaged.
        """
        return read_tables(self.path)

    @property
    def tasks(self) -> list[Task]:
        """Its tasks, in the order of training."""
        return [task_named(name) for name in self.config.tasks]

    @property
    def labels(self) -> dict[str, Label]:
        """What the cohort tells of a case beside its tasks' own labels, by name."""
        return {label.name: label for label in (*COLUMNS, *(item for task in self.tasks for item in task.labels))}

    @property
    def class_titles(self) -> dict[str, str]:
        """Titles of the classes of labels."""
        scored = (item for task in self.tasks for item in task.scored)
        return {label.name: label.title for label in (*SUBTYPE_LABELS, *scored)}

    @property
    def centres(self) -> tuple[str, ...]:
        """Every centre, in the configuration's order."""
        return self.config.centres

    @property
    def held_out(self) -> tuple[str, ...]:
        """The centres that were held out, one in each fold."""
        return self.config.study.held_out or self.config.centres

    @property
    def phantom(self) -> bool:
        """Whether any centre's data are phantoms."""
        return self.provenance.phantom

    @property
    def subject(self) -> str:
        """What was evaluated, for captions."""
        which = self.provenance.phantom_sites
        return f"cases (phantoms at {', '.join(which)})" if which else "phantom cases" if self.phantom else "cases"

    @property
    def confidence(self) -> str:
        """Level of the intervals, in words."""
        return f"{self.config.evaluation.confidence:.0%}"

    @property
    def seeds(self) -> str:
        """Number of training seeds, in words."""
        number = len(self.config.study.seeds)
        return f"{number} seed{'' if number == 1 else 's'}"


def read_finished_study(folder: Path) -> FinishedStudy:
    """Read a study's folder.

    `RunError` where a file is missing (the study is not finished) or damaged; the message names it. `ConfigError` where
    the folder is of another format, or `study.toml` is no configuration.
    """
    check_format(folder)
    config = load_config(folder / CONFIG)
    return FinishedStudy(
        path=folder,
        config=config,
        config_text=(folder / CONFIG).read_text(encoding="utf-8"),
        provenance=_json(folder, "provenance.json", StudyProvenance),
        models=_json(folder, "cells.json", tuple[ModelEntry, ...]),
        openings=_json(folder, "opened.json", dict[str, Opening]),
        flow=_json(folder, "flow.json", dict[str, CentreFlow]),
        curves=_table(folder, "curves.parquet", _CURVES),
        cohort=_table(folder, "cohort.parquet", _COHORT),
        predictions={name: _table(folder, predictions_path(name).as_posix(), set(WHO)) for name in config.tasks},
    )


def _json(folder: Path, name: str, kind: type[_T]) -> _T:
    if not (folder / name).exists():
        raise _refusal(folder, name, FileNotFoundError())
    return read_json(folder / name, TypeAdapter(kind), f"{folder.name}/{name}")


def _table(folder: Path, name: str, needed: set[str]) -> pd.DataFrame:
    try:
        table = pd.read_parquet(folder / name)
    except (OSError, ValueError) as error:
        raise _refusal(folder, name, error) from error
    if missing := needed - set(table.columns):
        raise RunError(f"{folder.name}/{name} lacks {', '.join(sorted(missing))}")
    return table


def _refusal(folder: Path, name: str, error: Exception) -> RunError:
    if isinstance(error, FileNotFoundError):
        return RunError(
            f"{folder.name} is no finished study, as {name} is missing: call `fedbreast study` with its configuration "
            "and --out again"
        )
    return RunError(f"{folder.name}/{name} cannot be read ({type(error).__name__}): restore it from a copy")
