"""Forest plots of a task: the federated model at each held-out centre, and its differences from other arms."""

from __future__ import annotations

from typing import Any

import pandas as pd

from server.reports import metric_text
from server.reports.study import metric_lookup
from server.reports.study.forest import Line, forest_plot
from server.reports.study.metric_lookup import (
    Summary,
    arm_name,
    axis_name,
    between,
    number,
    p_value,
    rounded,
    with_interval,
)
from server.reports.study.study_reader import Study

CHANCE = 0.5
_SHOWN = 2  # plots of differences beside each other; the others are folded away
_I2, _TAU2 = "I\N{SUPERSCRIPT TWO}", "\N{GREEK SMALL LETTER TAU}\N{SUPERSCRIPT TWO}"
WEAK = (
    f"Heterogeneity from so few centres is hardly measurable: with 3 to 5 of them {_I2} and {_TAU2} are weak, and a "
    f"small {_I2} does not show that centres agree. Squares: held-out centres, open where too few cases to be ranked; "
    "diamond: random-effects mean; thin bar: prediction interval, where the next centre may lie, with arrows where it "
    "leaves the axis."
)


def forests(study: Study, task: str) -> list[dict[str, Any]]:
    """A plot a metric: the federated model at each held-out centre, then the random-effects mean."""
    summary = Summary(study, task)
    drawn = []
    for metric in metric_lookup.plotted(summary, task):
        cells = {name: summary.get("federated", name, metric) for name in study.held_out}
        lines = [
            Line(
                f"{name} ({cell.row.n}/{cell.patients})",
                cell.text,
                cell.row.value,
                cell.row.ci_low,
                cell.row.ci_high,
                ranked=cell.ranked,
            )
            for name, cell in cells.items()
            if cell is not None
        ]
        if not lines:
            continue
        known = next(cell for cell in cells.values() if cell is not None)
        unit, model = known.row.unit, _meta(study, task, "federated", metric)
        lines += [_model_line(model, unit)] if model else []
        share = unit == "1" and not metric.startswith(("calibration", "volume_icc", "icc"))
        description = f"{metric_lookup.metric_name(metric)} of the federated model at each held-out centre"
        svg = forest_plot(
            lines,
            label=axis_name(metric, unit),
            name=f"{task}-forest-{metric.replace('_', '-')}",
            description=description,
            reference=CHANCE if metric.startswith("auc") else None,
            bounds=(0.0, 1.0) if share else None,
        )
        few = [name for name, cell in cells.items() if cell is not None and not cell.ranked]
        drawn.append({"svg": svg, "caption": _caption(study, description, known.seeds, few, model)})
    return drawn


def _caption(study: Study, description: str, seeds: int, few: list[str], model: dict[str, Any] | None) -> str:
    text = (
        f"{description} ({study.subject}/patients in brackets), {study.confidence} intervals, mean of {seeds} "
        f"seed{'' if seeds == 1 else 's'}."
    )
    text += f" {_words(model)}" if model else " Not pooled over centres."
    return text + (f" Open, not ranked: {', '.join(few)} (too few cases)." if few else "")


def _words(model: dict[str, Any]) -> str:
    """Heterogeneity in a line."""
    tau2, predicted = number(model["tau2"]), between(model["pi_low"], model["pi_high"], model["unit"])
    scale = " (logit scale)" if model["metric"].startswith("auc") and model["quantity"] in metric_lookup.ARMS else ""
    return (
        f"Random effects (k = {int(model['k'])}): {_TAU2} {metric_text.DASH if tau2 is None else f'{tau2:.2g}'}"
        f"{scale}, {_I2} {metric_text.fixed(number(model['i2']), 0)}%, Q test p {p_value(model['q_p'])}; "
        f"prediction interval {predicted}."
    )


def _meta(study: Study, task: str, quantity: str, metric: str) -> dict[str, Any] | None:
    table = study.tables.meta
    found = table[(table["task"] == task) & (table["quantity"] == quantity) & (table["metric"] == metric)]
    return {str(key): value for key, value in found.iloc[0].items()} if len(found) else None


def _model_line(model: dict[str, Any], unit: str) -> Line:
    low, high = number(model["pi_low"]), number(model["pi_high"])
    estimate = number(model["estimate"])
    return Line(
        "random effects",
        with_interval(estimate, model["ci_low"], model["ci_high"], unit),
        estimate,
        number(model["ci_low"]),
        number(model["ci_high"]),
        kind="model",
        prediction=None if low is None or high is None else (low, high),
    )


def differences(study: Study, task: str) -> dict[str, Any] | None:
    """Federated minus each arm: a plot of each compared metric, the headline first, and a table of all of them."""
    table = study.tables.comparisons
    table = table[table["task"] == task]
    if table.empty:
        return None
    first = metric_lookup.headline(study, task)
    metrics = sorted(set(table["metric"]), key=lambda name: (name != first, name))
    figures = [_difference_plot(study, task, metric, table[table["metric"] == metric]) for metric in metrics]
    units = {metric: _unit(study, task, metric) for metric in metrics}
    lines = [
        {
            "metric": axis_name(line["metric"], units[line["metric"]]),
            "arm": arm_name(line["arm"]),
            "centre": "all held-out centres" if line["centre"] == "all" else line["centre"],
            "difference": rounded(line["difference"], units[line["metric"]]),
            "interval": between(line["ci_low"], line["ci_high"], units[line["metric"]]),
            "p": p_value(line["p"]),
            "p_holm": p_value(line["p_holm"]),
            "n": int(line["n"]),
            "primary": bool(line["primary"]),
        }
        for line in table.sort_values("centre", key=lambda names: names != "all", kind="stable").to_dict("records")
    ]
    return {"figures": figures[:_SHOWN], "more": figures[_SHOWN:], "lines": lines}


def _difference_plot(study: Study, task: str, metric: str, table: pd.DataFrame) -> dict[str, Any]:
    unit, summary, lines = _unit(study, task, metric), Summary(study, task), []
    for arm in (name for name in metric_lookup.RIVALS if name in set(table["arm"])):
        part = {line["centre"]: line for line in table[table["arm"] == arm].to_dict("records")}
        together = number(part["all"]["p_holm"]) if "all" in part else None
        holm = "" if together is None else f"Holm p {p_value(together)}"
        lines.append(Line(f"Federated \N{MINUS SIGN} {arm_name(arm).lower()}", holm, kind="heading"))
        for place in (*study.held_out, "all"):
            if place not in part:
                continue
            line, total, own = part[place], place == "all", summary.get("federated", place, metric)
            lines.append(
                Line(
                    f"{'all' if total else place} ({int(line['n'])})",
                    with_interval(line["difference"], line["ci_low"], line["ci_high"], unit),
                    number(line["difference"]),
                    number(line["ci_low"]),
                    number(line["ci_high"]),
                    kind="all" if total else "centre",
                    ranked=own is None or own.ranked,
                )
            )
        model = _meta(study, task, f"federated-{arm}", metric)
        lines += [_model_line(model, unit)] if model else []
    description = (
        f"Difference in {metric_lookup.metric_name(metric)}, federated minus each other arm, on the same cases"
    )
    svg = forest_plot(
        lines,
        label=f"difference in {axis_name(metric, unit)}\n(better: {metric_lookup.better(metric)} of 0)",
        name=f"{task}-differences-{metric.replace('_', '-')}",
        description=description,
        reference=0.0,
    )
    seeds = len(study.config.study.seeds)
    caption = (
        f"{description}; in brackets {study.subject}. {study.confidence} intervals over patients, paired, {seeds} "
        f"seed{'' if seeds == 1 else 's'}. Small blue: all cases together, with Holm's p above where it belongs to the "
        f"primary family; large diamond, where centres were pooled: random effects, thin bar: prediction interval. "
        "Open: too few cases, not ranked."
    )
    return {"svg": svg, "caption": caption}


def _unit(study: Study, task: str, metric: str) -> str:
    table = study.tables.summary
    found = table.loc[(table["task"] == task) & (table["metric"] == metric), "unit"]
    return str(found.iloc[0]) if len(found) else "1"
