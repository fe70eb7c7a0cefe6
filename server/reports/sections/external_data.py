"""What a task's section is made from: the chosen model at the external centre, with its rivals on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from server.reports.figures.arms import Rows
from server.reports.figures.roc_calibration import answers
from server.reports.metric_text import opening
from server.reports.sections.model_comparison import rivals_of, short_name
from server.run_folder.arms import BOTH, END_TO_END, FEDERATED, ORACLE
from server.run_folder.finished_run import FinishedTask
from server.run_folder.results import ResultRow
from shared.errors import RunError
from shared.metrics.metric import Metric
from shared.tasks.task import Task

FEWEST = 10
"""Patients, and cases of either class, from which figures are ranked."""


@dataclass(frozen=True, slots=True)
class ExternalData:
    """The chosen model at the external centre."""

    run: FinishedTask
    cases: pd.DataFrame
    """The per-case table of every arm, one model each; empty where the centre sent sums from its own node."""
    rows: Mapping[str, Rows]
    """By arm, in the order to show: the reference outline, the model's other readings, rivals, the best possible."""
    rivals: Mapping[str, str] = field(default_factory=dict)
    """What the arms of other models are, in words, by arm."""
    name: str = ""
    """Of the model among its rivals; empty without any."""

    @property
    def task(self) -> Task:
        """The task."""
        return self.run.task

    @property
    def own(self) -> Rows:
        """The chosen model's figures, in the reference outline where it reads one."""
        return self.rows[FEDERATED]

    @property
    def own_cases(self) -> pd.DataFrame:
        """The chosen model's cases, read likewise."""
        return self.cases if self.run.at_node else self.cases[self.cases["arm"] == FEDERATED]

    @property
    def n(self) -> int:
        """Cases behind the best supported figure."""
        return max(row.n for row in self.own.values())

    @property
    def where(self) -> str:
        """Whose cases they are."""
        return f"{'phantom ' if self.run.phantom else ''}cases of {self.run.config.data.external}"

    def arm_name(self, arm: str) -> str:
        """An arm as shown: the model's own readings by their outline, among rivals by the model."""
        outline = "Reference outline" if self.task.reads_outline else "Federated"
        known = {
            FEDERATED: opening(self.name) or outline,
            END_TO_END: f"{opening(self.name)}, end to end" if self.name else "End to end",
            ORACLE: "Best possible",
        }
        part = arm.removeprefix(f"{FEDERATED}:")
        text = f"{part} alone" if part != arm else arm.replace(":", ": ")
        return known.get(arm, opening(text))

    def counts(self, label: str) -> tuple[int, int]:
        """Positive cases and all cases with the label."""
        known = answers(self.own_cases, label)
        return int(known["truth"].sum()), len(known)

    @property
    def areas(self) -> list[Metric]:
        """The AUCs that the results have: of single labels, and of a mean over several."""
        return [metric for metric in self.task.metrics if metric.sent == "histogram" and metric.name in self.own]

    @property
    def label_areas(self) -> dict[str, Metric]:
        """The AUCs of single labels, by label."""
        return {metric.labels[0]: metric for metric in self.areas if len(metric.labels) == 1}

    @property
    def leading_areas(self) -> list[Metric]:
        """The AUCs that sum the task up: the page's first figures, or every label's where none of those exists."""
        first = [metric for metric in self.areas if "card" in metric.shown]
        exists = any(self.own[metric.name].value is not None for metric in first)
        return first if exists else list(self.label_areas.values())

    def area_name(self, metric: Metric) -> str:
        """What an AUC is of: its label's title, or the metric's own for a mean."""
        titles = {label.name: label.title for label in self.task.scored}
        return titles[metric.labels[0]] if len(metric.labels) == 1 else metric.title

    def few(self, metric: Metric) -> bool:
        """Whether some class of its labels has too few cases for the figure to be ranked; unknown of sums."""
        counts = [] if self.run.at_node else [self.counts(label) for label in metric.labels]
        return any(min(positives, n - positives) < FEWEST for positives, n in counts)


def external_data(run: FinishedTask, others: Sequence[FinishedTask] = ()) -> ExternalData | None:
    """Gather what the external centre has of a task's chosen model; None where it evaluated no case.

    Some of the `others`, tasks of the same run, may be its rivals.

    Raises
    ------
    RunError
        The rows or the table lack the chosen model though the centre evaluated cases, or a fusion's table is lost.

    """
    rows: dict[str, dict[str, ResultRow]] = {}
    for row in run.external_rows:
        kind = row.arm.split(":")[0]
        if kind != BOTH and (kind != FEDERATED or row.model_hash == run.chosen.best):
            rows.setdefault(row.arm, {}).setdefault(row.metric, row)
    if run.at_node:
        evaluated, cases = bool(run.external_rows), pd.DataFrame()
    else:
        table = pd.DataFrame(columns=["centre", "model_hash"]) if run.predictions is None else run.predictions
        evaluated = len(table) > 0
        cases = table[(table["centre"] == run.config.data.external) & (table["model_hash"] == run.chosen.best)]
    if not evaluated:
        return None
    if FEDERATED not in rows or not (run.at_node or len(cases)):
        raise RunError(
            f"{run.path.name} has no external figures of the chosen model at '{run.config.data.external}' for "
            f"{run.task.name}: results.json or predictions/{run.task.name}.parquet is of another run"
        )
    rivals = {} if run.at_node else rivals_of(run, others)
    rows |= {arm: dict(rival.rows) for arm, rival in rivals.items()}
    readings = sorted(arm for arm in rows if arm.startswith(f"{FEDERATED}:") and arm != END_TO_END)
    order = [FEDERATED, END_TO_END, *readings, *rivals]
    order += sorted(set(rows) - {*order, ORACLE})
    return ExternalData(
        run,
        pd.concat([cases, *(rival.cases.assign(arm=arm) for arm, rival in rivals.items())], ignore_index=True),
        {arm: rows[arm] for arm in [*order, ORACLE] if arm in rows},
        {arm: rival.words for arm, rival in rivals.items()},
        short_name(run.task, [other.task for other in others]) if rivals else "",
    )
