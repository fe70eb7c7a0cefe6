"""Numbers of a study against their reference: Bland-Altman plots of the federated arm, agreement of every arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.reports.figures.agreement import bland_altman_plot
from server.reports.study.metric_lookup import ALL, Summary, arm_name, axis_name, place_name, seed_rows
from server.run_folder.arms import FEDERATED, is_local
from server.run_folder.finished_study import FinishedStudy
from shared.metrics.metric import Metric
from shared.metrics.paired_numbers import NumberPair
from shared.tasks.task import Task


def agreement(study: FinishedStudy, task: Task) -> list[dict[str, Any]]:
    """For each number of the task the plot, ICC by arm and centre, bias and limits by arm."""
    return [part for pair in task.pairs if (part := _agreement(study, task, pair))]


def _agreement(study: FinishedStudy, task: Task, pair: NumberPair) -> dict[str, Any] | None:
    seed, table = study.config.study.seeds[0], study.predictions[task.name]
    cases = table[(table["role"] == "external") & (table["seed"] == seed) & (table["arm"] == FEDERATED)]
    cases = cases[cases.reindex(columns=list(pair.columns)).notna().all(axis=1)]
    if cases.empty:
        return None
    description = f"Bland-Altman plot of {pair.title}, federated arm, {place_name(ALL)} together, seed {seed}"
    svg = bland_altman_plot(
        cases,
        seed_rows(study, task, FEDERATED, seed),
        log=False,
        description=description,
        quantity=pair,
        name=f"{task.name}-bland-altman-{pair.title.lower().replace(' ', '-')}",
    )
    caption = (
        f"{description}: {len(cases)} {study.subject} of {cases['patient'].nunique()} patients, predicted minus "
        f"reference; bias and 95% limits of agreement, bands are their {study.confidence} intervals."
    )
    summary, places = Summary(study, task), [*study.held_out, ALL]

    def line(arm: str, wanted: Sequence[tuple[str, Metric]]) -> dict[str, Any]:
        """An arm's figures, and the federated arm's cases: where they are others, that is said."""
        theirs = [summary.get(FEDERATED, place, metric) for place, metric in wanted]
        cells = [summary.get(arm, place, metric) for place, metric in wanted]
        return {"name": arm_name(arm), "cells": cells, "n": [row.n if row else None for row in theirs]}

    icc = task.metric(pair.pattern.format("icc_a1"))
    names = [pair.pattern.format(key) for key in ("bias", "limit_low", "limit_high")]
    limits = [metric for name in names if (metric := task.metric(name))]
    return {
        "svg": svg,
        "caption": caption,
        "title": pair.title,
        "icc": icc.title if icc else "",
        "places": places,
        "lines": [line(arm, [(place, icc) for place in places]) for arm in summary.arms if icc],
        "limit_names": [axis_name(metric) for metric in limits],
        "limits": [line(arm, [(ALL, metric) for metric in limits]) for arm in summary.arms if not is_local(arm)],
    }
