"""Which of a task's metrics are AUCs, and which of them sum it up."""

from __future__ import annotations

from server.reports.sections.external_data import ExternalData
from shared.metrics.metric import Metric


def areas(data: ExternalData) -> list[Metric]:
    """The AUCs that the results have: of single labels, and of a mean over several."""
    return [metric for metric in data.task.metrics if metric.sent == "histogram" and metric.name in data.own]


def label_areas(data: ExternalData) -> dict[str, Metric]:
    """The AUCs of single labels, by label."""
    return {metric.labels[0]: metric for metric in areas(data) if len(metric.labels) == 1}


def leading_areas(data: ExternalData) -> list[Metric]:
    """The AUCs that sum the task up: those of the page's first figures, or every label's where none of those exists."""
    first = [metric for metric in areas(data) if "card" in metric.shown]
    exists = any(data.own[metric.name].value is not None for metric in first)
    return first if exists else list(label_areas(data).values())


def area_name(metric: Metric, data: ExternalData) -> str:
    """What an AUC is of: its label's title, or the metric's own for a mean."""
    titles = {label.name: label.title for label in data.task.scored}
    return titles[metric.labels[0]] if len(metric.labels) == 1 else metric.title


def why_undefined(metric: Metric, data: ExternalData) -> str:
    """Why an AUC does not exist."""
    if len(metric.labels) > 1:
        return "a mean needs an AUC of each label"
    positives, n = data.counts(metric.labels[0])
    return f"{positives} of {n} cases positive, both classes are needed" if n else "no case here has the label"
