"""Forest plots of a task: the federated model at each held-out centre, and its differences from other arms."""

from __future__ import annotations

from typing import Any

from server.reports.metric_text import DASH, between, counted, fixed, p_value, with_interval
from server.reports.study.forest import Line, forest_plot
from server.reports.study.metric_lookup import (
    ALL,
    ARMS,
    RIVALS,
    Summary,
    arm_name,
    axis_name,
    better_side,
    line_of,
    lines_of,
    metric_of,
)
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy
from shared.metrics.metric import Metric
from shared.tasks.task import Task

CHANCE = 0.5
_SHOWN = 2  # plots of differences beside each other; the others are folded away
_I2, _TAU2 = "I\N{SUPERSCRIPT TWO}", "\N{GREEK SMALL LETTER TAU}\N{SUPERSCRIPT TWO}"


def forests(study: FinishedStudy, task: Task) -> list[dict[str, Any]]:
    """One plot for each plotted metric: the federated model at each held-out centre, then the random-effects mean."""
    summary = Summary(study, task)
    shown = [metric for metric in task.metrics if "plotted" in metric.shown and summary.has(metric)]
    return [item for metric in shown if (item := _forest(study, task, summary, metric))]


def _forest(study: FinishedStudy, task: Task, summary: Summary, metric: Metric) -> dict[str, Any] | None:
    rows = [row for name in study.held_out if (row := summary.get(FEDERATED, name, metric))]
    if not rows:
        return None
    lines = [
        Line(f"{row.centre} ({row.n}/{row.patients})", row.text, row.value, row.ci_low, row.ci_high, ranked=row.ranked)
        for row in rows
    ]
    model = line_of(study.tables.meta, task, quantity=FEDERATED, metric=metric.name)
    lines += [_model_line(model, metric.unit)] if model else []
    description = f"{metric.title} of the federated model at each held-out centre"
    svg = forest_plot(
        lines,
        label=axis_name(metric),
        name=f"{task.name}-forest-{metric.name.replace('_', '-')}",
        description=description,
        reference=CHANCE if metric.is_auc else None,
        bounds=(0.0, 1.0) if metric.unit == "1" and not metric.signed else None,
    )
    few = [row.centre for row in rows if not row.ranked]
    caption = (
        f"{description} ({study.subject}/patients in brackets), {study.confidence} intervals, mean of "
        f"{counted(rows[0].seeds, 'seed')}. {_words(model, metric) if model else 'Not pooled over centres.'}"
    )
    return {"svg": svg, "caption": caption + (f" Open, not ranked: {', '.join(few)} (too few cases)." if few else "")}


def _words(model: dict[str, Any], metric: Metric) -> str:
    """Heterogeneity in a line."""
    tau2, predicted = model["tau2"], between(model["pi_low"], model["pi_high"], metric.unit)
    scale = " (logit scale)" if metric.is_auc and model["quantity"] in ARMS else ""
    return (
        f"Random effects (k = {model['k']}): {_TAU2} {DASH if tau2 is None else f'{tau2:.2g}'}"
        f"{scale}, {_I2} {fixed(model['i2'], 0)}%, Q test p {p_value(model['q_p'])}; "
        f"prediction interval {predicted}."
    )


def _model_line(model: dict[str, Any], unit: str) -> Line:
    low, high = model["pi_low"], model["pi_high"]
    figure = model["estimate"], model["ci_low"], model["ci_high"]
    prediction = None if low is None or high is None else (low, high)
    return Line("random effects", with_interval(*figure, unit), *figure, "model", prediction=prediction)


def differences(study: FinishedStudy, task: Task) -> dict[str, Any] | None:
    """Federated minus each arm: a plot of each compared metric, the headline first, and a table of all of them."""
    compared = lines_of(study.tables.comparisons, task)
    if not compared:
        return None
    names = dict.fromkeys(line["metric"] for line in compared)
    metrics = {metric.name: metric for metric in task.metrics if metric.name in names}
    figures = [_difference_plot(study, task, metric) for metric in metrics.values()]
    ordered = sorted(compared, key=lambda line: line["centre"] != ALL)
    lines = [(metric_of(task, line["metric"]), line) for line in ordered]
    return {"figures": figures[:_SHOWN], "more": figures[_SHOWN:], "lines": lines}


def _difference_plot(study: FinishedStudy, task: Task, metric: Metric) -> dict[str, Any]:
    summary, lines = Summary(study, task), []
    for arm in RIVALS:
        compared = lines_of(study.tables.comparisons, task, metric=metric.name, arm=arm)
        if not compared:
            continue
        by_place = {line["centre"]: line for line in compared}
        together = by_place[ALL]["p_holm"] if ALL in by_place else None
        holm = "" if together is None else f"Holm p {p_value(together)}"
        lines.append(Line(f"Federated \N{MINUS SIGN} {arm_name(arm).lower()}", holm, kind="heading"))
        for place in (*study.held_out, ALL):
            if place not in by_place:
                continue
            line, own = by_place[place], summary.get(FEDERATED, place, metric)
            figure = line["difference"], line["ci_low"], line["ci_high"]
            name, text = f"{place} ({line['n']})", with_interval(*figure, metric.unit)
            ranked = own is None or own.ranked
            lines.append(Line(name, text, *figure, "all" if place == ALL else "centre", ranked=ranked))
        model = line_of(study.tables.meta, task, quantity=f"{FEDERATED}-{arm}", metric=metric.name)
        lines += [_model_line(model, metric.unit)] if model else []
    description = f"Difference in {metric.title}, federated minus each other arm, on the same cases"
    svg = forest_plot(
        lines,
        label=f"difference in {axis_name(metric)}\n(better: {better_side(metric)} of 0)",
        name=f"{task.name}-differences-{metric.name.replace('_', '-')}",
        description=description,
        reference=0.0,
    )
    caption = (
        f"{description}; in brackets {study.subject}. {study.confidence} intervals over patients, paired, "
        f"{study.seeds}. Small blue: all cases together, with Holm's p above where it belongs to the primary family; "
        "large diamond, where centres were pooled: random effects, thin bar: prediction interval. Open: too few cases, "
        "not ranked."
    )
    return {"svg": svg, "caption": caption}
