"""Figures of scores with their captions: those that the cases allow. Ids carry the task's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.reports.figures.arms import forest
from server.reports.figures.roc_calibration import calibration_plots, roc_curves
from server.reports.metric_text import within
from server.reports.sections.external_data import ExternalData
from server.run_folder.arms import END_TO_END, FEDERATED


def score_figures(data: ExternalData, *, compared: bool = True) -> list[dict[str, Any]]:
    """Figures of one task; without `compared` only those of the model alone, not of arm against arm."""
    labels = {name: data.area_name(metric) for name, metric in data.label_areas.items() if data.counts(name)[1]}
    return [
        *(_roc(data, labels) if labels and compared else ()),
        *(_calibration(data, labels) if labels else ()),
        *(_forest(data) if compared else ()),
    ]


def _roc(data: ExternalData, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    text = f"ROC curves, {data.where}"
    arms = {arm: within(data.arm_name(arm)) for arm in (FEDERATED, END_TO_END, *data.rivals) if arm in data.rows}
    alone = [arm for arm in data.rows if data.arm_name(arm).endswith(" alone")]
    svg = roc_curves(
        data.cases, data.rows, labels, arms, alone, name=f"{data.task.name}-roc",
        description=f"{text}, one panel per label",
    )  # fmt: skip
    thin = " Thin: parts of the network alone." if alone else ""
    yield {"svg": svg, "caption": f"{text}. Beside each name: positive cases of all.{thin}"}


def _calibration(data: ExternalData, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    text = f"Calibration, {data.where}"
    svg = calibration_plots(
        data.own_cases,
        labels,
        confidence=data.run.config.evaluation.confidence,
        name=f"{data.task.name}-calibration",
        description=f"{text}: observed share against predicted probability",
    )
    outline = ", reference outline" if data.task.reads_outline else ""
    yield {
        "svg": svg,
        "caption": f"{text}{outline}, with Wilson's intervals. Beside each name: bins and cases in each. "
        "On the dashed line a probability means what it says.",
    }


def _forest(data: ExternalData) -> Iterator[dict[str, Any]]:
    groups = {
        f"{data.area_name(metric)}{' (few)' if data.few(metric) else ''}": {
            data.arm_name(arm): rows[metric.name] for arm, rows in data.rows.items() if metric.name in rows
        }
        for metric in data.leading_areas
    }
    if any(row.value is not None for group in groups.values() for row in group.values()):
        numbers = [data.own[metric.name].n for metric in data.leading_areas]
        n = f"n = {min(numbers)}" + (f" to {max(numbers)}" if max(numbers) > min(numbers) else "")
        name = next(iter(groups)) if len(groups) == 1 else "AUC"
        text = f"{name} by arm, {data.where}"
        svg = forest(groups, label=f"{name} ({n})", name=f"{data.task.name}-forest", description=text)
        yield {"svg": svg, "caption": f"{text}, with intervals; hollow marks have none. Dashed: chance."}
