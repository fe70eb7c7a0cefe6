"""Exploratory subgroups: the federated arm by scanner, field, density, age and lesion size, and its gain."""

from __future__ import annotations

from typing import Any

from server.reports.metric_text import with_interval
from server.reports.study.cohort_table import FACTORS
from server.reports.study.forest import Line, forest_plot
from server.reports.study.metric_lookup import axis_name, better_side, lines_of, metric_of
from server.run_folder.arms import FEDERATED, LOCAL
from server.run_folder.finished_study import FinishedStudy
from shared.metrics.metric import Metric
from shared.tasks.task import Task


def subgroups(study: FinishedStudy, task: Task) -> dict[str, Any] | None:
    """Two forests, of the federated figure and of its difference from local models, and the table of both."""
    lines = lines_of(study.tables.subgroups, task, arm=FEDERATED)
    if not lines:
        return None
    metric, local = metric_of(task, lines[0]["metric"]), lines_of(study.tables.subgroups, task, arm=LOCAL)
    values = {(line["factor"], line["level"]): line["value"] for line in local}
    return {
        "metric": metric,
        "figures": [_plot(study, task, lines, metric, gained=gained) for gained in (False, True)],
        "lines": [
            line
            | {
                "factor": FACTORS.get(line["factor"], line["factor"]),
                "level": _level(line["level"]),
                "local": values.get((line["factor"], line["level"])),
            }
            for line in lines
        ],
    }


def _plot(
    study: FinishedStudy, task: Task, lines: list[dict[str, Any]], metric: Metric, *, gained: bool
) -> dict[str, Any]:
    names = ("difference", "difference_low", "difference_high") if gained else ("value", "ci_low", "ci_high")
    drawn, factor = [], ""
    for line in lines:
        if line["factor"] != factor:
            factor = line["factor"]
            drawn.append(Line(FACTORS.get(factor, factor), kind="heading"))
        value, low, high = (line[name] for name in names)
        text = with_interval(value, low, high, metric.unit)
        drawn.append(Line(f"{_level(line['level'])} ({line['n']})", text, value, low, high, ranked=line["ranked"]))
    what = f"{metric.title} in subgroups, federated" + (" minus local" if gained else "")
    difference = f"difference in {axis_name(metric)}\n(better: {better_side(metric)} of 0)"
    svg = forest_plot(
        drawn,
        label=difference if gained else axis_name(metric),
        name=f"{task.name}-subgroups{'-difference' if gained else ''}",
        description=what,
        reference=0.0 if gained else None,
    )
    caption = (
        f"{what}; in brackets {study.subject}, all held-out centres together, mean of {study.seeds}, "
        f"{study.confidence} intervals over patients. Open: too few, not ranked."
    )
    return {"svg": svg, "caption": caption}


def _level(level: Any) -> str:
    return str(level).replace(">=", "\N{GREATER-THAN OR EQUAL TO}").replace("<=", "\N{LESS-THAN OR EQUAL TO}")
