"""A study's figures by arm, centre and metric, and how arms and metrics are written on its page and card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from server.reports.figures.style import SITES
from server.reports.metric_text import with_interval
from server.run_folder.arms import ENSEMBLE, FEDERATED, LOCAL, POOLED, is_local
from server.run_folder.finished_study import FinishedStudy
from server.run_folder.results import ResultRow, Role
from shared.errors import RunError
from shared.metrics.metric import Metric
from shared.tasks.task import Task

ALL = "all"
"""Every held-out centre together."""
ARMS = (FEDERATED, POOLED, ENSEMBLE, LOCAL)
RIVALS = (LOCAL, POOLED, ENSEMBLE)
ARM_NAMES = {FEDERATED: "Federated", POOLED: "Pooled", ENSEMBLE: "Ensemble", LOCAL: "Local (mean)"}
ARM_MEANINGS = {
    LOCAL: "each training centre alone, on its own data, for the rounds and steps it has in the federation",
    FEDERATED: "the training centres together, averaged after every round; no image leaves a centre",
    POOLED: "all training data in one place, for the steps of all centres together: a ceiling that hospitals cannot "
    "reach without sharing images",
    ENSEMBLE: "for each case the mean of the local models' predictions: sharing models, not training",
}
COLOURS = {FEDERATED: SITES[0], POOLED: SITES[5]}
MARKERS = {FEDERATED: "s", POOLED: "o"}


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One row of `summary`: a figure over seeds, on whom it was measured, and whether it may be ranked."""

    task: str
    arm: str
    centre: str
    role: Role
    metric: Metric
    unit: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    patients: int
    seeds: int
    ranked: bool
    note: str

    @property
    def text(self) -> str:
        """Value and interval on one line."""
        return with_interval(self.value, self.ci_low, self.ci_high, self.unit)


class Summary:
    """`summary` of one task, by arm, centre, role and metric."""

    def __init__(self, study: FinishedStudy, task: Task) -> None:
        lines = lines_of(study.tables.summary, task)
        rows = [SummaryRow(**line | {"metric": metric_of(task, line["metric"])}) for line in lines]
        self._by = {(row.arm, row.centre, row.role, row.metric.name): row for row in rows}

    def get(self, arm: str, centre: str, metric: Metric, role: Role = "external") -> SummaryRow | None:
        """One figure; `ALL` is every held-out centre together."""
        return self._by.get((arm, centre, role, metric.name))

    @property
    def rows(self) -> list[SummaryRow]:
        """Every figure, in the table's order."""
        return list(self._by.values())

    def has(self, metric: Metric) -> bool:
        """Whether the federated arm has the figure at held-out centres."""
        return any(key[0] == FEDERATED and key[2:] == ("external", metric.name) for key in self._by)

    @property
    def arms(self) -> list[str]:
        """Arms in the order to show: the four kinds, then every local model's own."""
        known = {key[0] for key in self._by}
        return [arm for arm in ARMS if arm in known] + sorted(arm for arm in known if is_local(arm))


def metric_of(task: Task, name: str) -> Metric:
    """A metric of a table's row.

    Raises
    ------
    RunError
        The task does not declare it.

    """
    metric = task.metric(name)
    if metric is None:
        raise RunError(
            f"the study's tables hold '{name}', no metric of {task.name}: make them again by `fedbreast report`"
        )
    return metric


def lines_of(table: pd.DataFrame, task: Task, **where: str) -> list[dict[str, Any]]:
    """Rows of one of the study's tables that concern a task, and have these cells; `None` for what does not exist."""
    keep = table["task"] == task.name
    for column, value in where.items():
        keep &= table[column] == value
    lines = table[keep].to_dict("records")
    return [{str(key): None if pd.isna(value) else value for key, value in line.items()} for line in lines]


def line_of(table: pd.DataFrame, task: Task, **where: str) -> dict[str, Any] | None:
    """The one row with these cells; `None` where there is none."""
    return next(iter(lines_of(table, task, **where)), None)


def seed_rows(study: FinishedStudy, task: Task, arm: str, seed: int) -> dict[str, ResultRow]:
    """One seed's figures of an arm at all held-out centres together, by metric."""
    lines = lines_of(study.tables.results, task, arm=arm, centre=ALL, role="external")
    return {row.metric: row for row in map(ResultRow.model_validate, lines) if row.seed == seed}


def axis_name(metric: Metric) -> str:
    """A metric's title with its unit, for axes and columns."""
    return metric.title + ("" if metric.unit == "1" else f", {metric.unit}")


def better_side(metric: Metric) -> str:
    """On which side of zero federated minus another arm is good."""
    return "right" if metric.higher_is_better else "left"


def arm_name(arm: str) -> str:
    """An arm in words."""
    return ARM_NAMES.get(arm) or arm.replace(f"{LOCAL}:", "Local: ")


def place_name(centre: str) -> str:
    """A centre, or all of them, in words."""
    return "all held-out centres" if centre == ALL else centre
