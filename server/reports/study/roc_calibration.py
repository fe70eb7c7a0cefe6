"""Classifiers of a study: ROC curves, calibration, and what each arm does at its frozen thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from server.reports.figures.roc_calibration import answers, calibration_plots, roc_curves
from server.reports.study.metric_lookup import ALL, ARMS, Summary, arm_name, seed_rows
from server.run_folder.arms import FEDERATED, is_local
from server.run_folder.finished_study import FinishedStudy
from shared.cohort.labels import Label
from shared.metrics.metric import Metric
from shared.tasks.task import Task


def scores(study: FinishedStudy, task: Task) -> dict[str, Any] | None:
    """Figures of the first seed, tables over all of them; `None` where a task has no scores."""
    table, seed = study.predictions[task.name], study.config.study.seeds[0]
    cases = table[(table["role"] == "external") & (table["seed"] == seed)]
    labels = [label for label in task.scored if len(answers(cases, label.name))]
    if not labels:
        return None
    summary = Summary(study, task)
    return {
        "figures": _figures(study, task, cases, labels),
        "tables": [item for label in labels for item in _tables(study, task, summary, label)],
    }


def _tables(study: FinishedStudy, task: Task, summary: Summary, label: Label) -> list[dict[str, Any]]:
    """Two tables of a label's metrics: those of the scores alone, and those at the frozen threshold."""
    own = [metric for metric in task.metrics if metric.labels == (label.name,) and metric.interval != "delong"]
    at_threshold = [metric for metric in own if f"threshold_{label.name}" in metric.columns]
    groups = {
        "ranking and calibration": [metric for metric in own if metric not in at_threshold],
        "at the frozen thresholds": at_threshold,
    }
    together = [(arm, ALL) for arm in summary.arms if not is_local(arm)]
    places = together + [(FEDERATED, centre) for centre in study.held_out]
    return [
        {
            "title": f"{label.title}, {words}",
            "columns": [metric.title.removesuffix(f", {label.title}") for metric in metrics],
            "lines": [_line(summary, arm, centre, metrics) for arm, centre in places],
        }
        for words, metrics in groups.items()
        if metrics
    ]


def _line(summary: Summary, arm: str, centre: str, metrics: Sequence[Metric]) -> dict[str, Any]:
    cells = [summary.get(arm, centre, metric) for metric in metrics]
    known = [cell for cell in cells if cell is not None]
    return {
        "name": arm_name(arm) if centre == ALL else f"Federated at {centre}",
        "cells": cells,
        "thin": any(not cell.ranked for cell in known if cell.value is not None),
        "n": f"{known[0].n} ({known[0].patients})" if known else "",
    }


def _figures(study: FinishedStudy, task: Task, cases: pd.DataFrame, labels: Sequence[Label]) -> list[dict[str, Any]]:
    """ROC curves, one panel for each label, and the calibration of each arm that has one model in each fold."""
    seed, titles = study.config.study.seeds[0], {label.name: label.title for label in labels}
    known = cases[cases[[f"truth_{name}" for name in titles]].notna().any(axis=1)]
    arms = {arm: arm_name(arm) for arm in ARMS if arm in set(known["arm"])}
    whom = f"{study.subject} of all held-out centres together, seed {seed}"
    text = f"ROC curves of each arm on the {whom}"
    svg = roc_curves(
        known,
        {arm: seed_rows(study, task, arm, seed) for arm in arms},
        titles,
        arms,
        sorted(arm for arm in set(known["arm"]) if is_local(arm)),
        name=f"{task.name}-roc",
        description=text,
    )
    caption = (
        f"{text} ({known['case'].nunique()} cases of {known['patient'].nunique()} patients; above each panel its "
        f"positive ones). Thin grey: the local models. AUCs are of this seed; {study.confidence} intervals over all "
        "seeds stand in the tables below."
    )
    drawn = [{"svg": svg, "caption": caption}]
    for arm in arms:
        text = f"Calibration of the {arm} arm on the {whom}"
        svg = calibration_plots(
            known[known["arm"] == arm], titles, confidence=study.config.evaluation.confidence,
            name=f"{task.name}-calibration-{arm}", description=text,
        )  # fmt: skip
        caption = (
            f"{text}: observed share against mean probability in bins of nearly equal numbers of cases (above each "
            f"panel bins \N{MULTIPLICATION SIGN} cases), Wilson's {study.confidence} intervals."
        )
        drawn.append({"svg": svg, "caption": caption})
    return drawn
