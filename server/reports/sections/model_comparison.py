"""Other models on the same cases: a task's rivals and their fusion, and the last round beside the chosen one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from server.evaluation.late_fusion import fusion_table
from server.reports.figures.arms import Rows, forest
from server.reports.metric_text import opening
from server.reports.sections.figure_table import Column, figure_table
from server.run_folder.arms import FEDERATED, FUSION, ORACLE, is_local
from server.run_folder.finished_run import FinishedTask
from server.run_folder.predictions import read_predictions
from server.run_folder.results import ResultRow
from shared.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Rival:
    """Another model on a task's external cases: what it is, its figures and its per-case table."""

    words: str
    rows: Rows
    cases: pd.DataFrame


def rivals_of(run: FinishedTask, others: Sequence[FinishedTask]) -> dict[str, Rival]:
    """The rivals of a task's chosen model by arm, and the fusion with one of them; none without their external cases.

    Raises
    ------
    RunError
        The results have a fusion and its table is missing.

    """
    rivals = {}
    for other in others:
        if other.task.rival_of != run.task.name or other.predictions is None:
            continue
        best, table = other.chosen.best, other.predictions
        rows = {row.metric: row for row in other.external_rows if (row.arm, row.model_hash) == (FEDERATED, best)}
        if not rows:
            continue
        cases = table[(table["arm"] == FEDERATED) & (table["model_hash"] == best)]
        words = f"{other.task.card.network} ({other.task.title}), trained in the same federation"
        rivals[short_name(other.task, [run.task])] = Rival(words, rows, cases)
        fused = {row.metric: row for row in run.external_rows if row.arm == FUSION}
        if other.task.fused and fused:
            words = "the mean of both models' log-probabilities, no weight fitted"
            rivals[FUSION] = Rival(words, fused, read_predictions(run.path, fusion_table(run.task.name)))
    return rivals


def short_name(task: Task, others: Sequence[Task]) -> str:
    """How a task is called beside its rivals: as it says, or by the words of its name that theirs have not."""
    if task.short:
        return task.short
    related = [other for other in others if task.name == other.rival_of or other.name == task.rival_of]
    shared = {word for other in related for word in other.name.split("-")}
    return " ".join(word for word in task.name.split("-") if word not in shared) or task.name


def comparison(run: FinishedTask) -> dict[str, Any] | None:
    """The chosen round's model beside the last round's and other arms' models; None where there is one model."""
    lines = dict(_models(run))
    if len(lines) < 2:  # noqa: PLR2004 - one model has nothing to be compared with
        return None
    columns = [Column.of(metric) for metric in run.task.metrics if "compared" in metric.shown]
    headline = run.task.headline
    shown = {name: rows[headline.name] for name, rows in lines.items() if headline.name in rows}
    text = f"{headline.title} of each model at {run.config.data.external}"
    n = max((row.n for row in shown.values()), default=0)
    label = f"{headline.title}{'' if headline.unit == '1' else f', {headline.unit}'} (n = {n})"
    svg = forest({"": shown}, label=label, name=f"{run.task.name}-models", description=text, reference=None)
    return {
        "table": figure_table("Model", columns, lines),
        "figures": [{"svg": svg, "caption": f"{text}, with intervals."}],
    }


def _models(run: FinishedTask) -> Iterator[tuple[str, Mapping[str, ResultRow]]]:
    """Names and figures of whole models: no second reading, no part of a network, no fusion and no oracle."""
    models: dict[tuple[str, str], dict[str, ResultRow]] = {}
    for row in run.external_rows:
        if row.arm not in {FUSION, ORACLE} and (":" not in row.arm or is_local(row.arm)):
            models.setdefault((row.arm, row.model_hash), {})[row.metric] = row
    chosen = run.chosen
    rounds = {chosen.final: ", last round", chosen.best: ", chosen round"} if chosen.best != chosen.final else {}
    for (arm, model), rows in models.items():
        yield f"{opening(arm.replace(':', ': '))}{rounds.get(model, '') if arm == FEDERATED else ''}", rows
