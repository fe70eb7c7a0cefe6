"""Outlined structures on a page: the task's first figures, the table of all, Dice by case and by size, worst cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from server.reports.figures.overlap import dice_by_size, dice_strip
from server.reports.metric_text import digits, fixed
from server.reports.sections.external_data import ExternalData
from server.reports.sections.figure_table import metric_table
from shared.metrics.metric import Metric

_WORST, _FEWEST_WORST = 0.05, 3


def masks(data: ExternalData) -> dict[str, Any] | None:
    """Every figure that is neither of a pair of numbers nor of a label's scores; None where there is none."""
    metrics = general_metrics(data)
    if not metrics:
        return None
    lone = data.task.structures[0] if len(data.task.structures) == 1 else None
    return {
        "cards": [data.own[metric.name] for metric in metrics if "card" in metric.shown],
        "table": metric_table(metrics, {"Value": data.own}, data.run.config.evaluation),
        "figures": _figures(data, lone.suffix) if lone else [],
        "worst": _worst(data, metrics) if data.task.structures else None,
    }


def general_metrics(data: ExternalData) -> list[Metric]:
    """Those of a task's metrics that are of no pair of numbers and of no label, and that the results have."""
    paired = {pair.columns for pair in data.task.pairs}
    return [
        metric
        for metric in data.task.metrics
        if metric.columns not in paired and not metric.labels and metric.name in data.own
    ]


def _figures(data: ExternalData, suffix: str) -> list[dict[str, Any]]:
    cases, name = data.own_cases, data.task.name
    dice, failed = cases[f"dice{suffix}"], cases[f"hd95_mm{suffix}"].isna()
    means = (metric for metric in data.task.metrics if metric.columns == (f"dice{suffix}",) and metric.is_mean)
    mean = data.own[next(means).name]
    strip = f"Dice of each case in order with the mean and its interval, {data.where}"
    svg = dice_strip(dice, failed, mean, name=f"{name}-dice", description=strip)
    figures = [{"svg": svg, "caption": f"{strip}."}]
    for pair in data.task.pairs[:1]:
        text = f"Dice against the reference's {pair.title}, {data.where}"
        svg = dice_by_size(
            dice, failed, cases[pair.columns[1]], label=f"reference {pair.title}, {pair.unit}", name=f"{name}-size",
            description=text,
        )  # fmt: skip
        figures.append({"svg": svg, "caption": f"{text}; crosses: nothing predicted."})
    return figures


def _worst(data: ExternalData, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The lowest 5% of the cases by the headline, at least three."""
    headline = data.task.headline
    shown = [headline, *(metric for metric in metrics if "card" in metric.shown and metric is not headline)]
    table = data.own_cases
    columns = [(metric.title, metric.unit, _per_case(metric, data)) for metric in shown]
    for pair in data.task.pairs:
        columns += [(f"{pair.title.capitalize()}, {what}", pair.unit, table[column].to_numpy())
                    for what, column in zip(("predicted", "reference"), pair.columns, strict=True)]  # fmt: skip
    keys, worth = table["case"].to_numpy(), columns[0][2] * (1 if headline.higher_is_better else -1)
    order = np.lexsort((keys, np.nan_to_num(worth, nan=-np.inf)))
    return {
        "by": headline.title,
        "columns": [title if unit == "1" else f"{title}, {unit}" for title, unit, _ in columns],
        "lines": [
            {"case": keys[place], "cells": [fixed(values[place], digits(unit)) for _, unit, values in columns]}
            for place in order[: max(_FEWEST_WORST, math.ceil(_WORST * len(order)))]
        ],
    }


def _per_case(metric: Metric, data: ExternalData) -> np.ndarray:
    """A metric of each case alone: of a mean its value, of what pools counts the figure of these counts."""
    values = metric.values(data.own_cases)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([float(metric.statistic(row[None], np.ones((1, 1)))[0]) for row in values])
