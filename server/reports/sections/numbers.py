"""Predicted numbers against their reference on a page: errors and agreement by arm, with figures."""

from __future__ import annotations

from typing import Any

from server.reports.figures.agreement import bland_altman_plot, known_pairs, scatter_plot
from server.reports.metric_text import fixed
from server.reports.sections.external_data import ExternalData
from server.reports.sections.figure_table import metric_table
from server.run_folder.arms import END_TO_END, FEDERATED
from shared.metrics.agreement import bias, icc
from shared.metrics.paired_numbers import NumberPair, is_spread_with_size


def numbers(data: ExternalData) -> list[dict[str, Any]]:
    """One part per pair of numbers that the results have figures of."""
    return [part for pair in data.task.pairs if (part := _part(data, pair)) is not None]


def _part(data: ExternalData, pair: NumberPair) -> dict[str, Any] | None:
    metrics = [metric for metric in data.task.metrics if metric.columns == pair.columns]
    arms = {data.arm_name(arm): data.rows[arm] for arm in (FEDERATED, END_TO_END) if arm in data.rows}
    known = {name: rows for name, rows in arms.items() if any(metric.name in rows for metric in metrics)}
    if not known:
        return None
    names = list(known) if len(known) > 1 else ["Value"]
    predicted, _ = known_pairs(data.own_cases, pair, positive=False)
    missing = data.own_cases[pair.columns[1]].notna().sum() - len(predicted)
    return {
        "title": pair.title,
        "table": metric_table(metrics, dict(zip(names, known.values(), strict=True)), data.run.config.evaluation),
        "missing": int(missing),
        "figures": _figures(data, pair) if len(predicted) else [],
    }


def _figures(data: ExternalData, pair: NumberPair) -> list[dict[str, Any]]:
    cases, name, where = data.own_cases, f"{data.task.name}-{pair.pattern.format('')}".strip("_-"), data.where
    # Of what is compared as a ratio, the axes are logarithmic too.
    ratios = data.task.metric(pair.pattern.format("ratio_bias")) is not None
    log = ratios and is_spread_with_size(cases[list(pair.columns)].dropna().to_numpy())
    text = f"Bland-Altman plot of {pair.title}, {where}"
    scale = " Ratios, as the spread grows with size; cases in which one of the two is 0 have none." if log else ""
    agreement = bland_altman_plot(cases, data.own, quantity=pair, log=log, name=f"{name}-agreement", description=text)
    against = f"Predicted against reference {pair.title}, {where}"
    absent = "; cases in which one of the two is 0 are absent" if ratios else ""
    scatter = scatter_plot(cases, quantity=pair, log=ratios, name=f"{name}-scatter", description=against)
    return [
        {
            "svg": agreement,
            "caption": f"{text}: bias and 95% limits, bands are their bootstrap intervals.{scale}"
            f"{_normal_theory(data, pair, log=log)}",
        },
        {"svg": scatter, "caption": f"{against}{absent}."},
    ]


def _normal_theory(data: ExternalData, pair: NumberPair, *, log: bool) -> str:
    """The same agreement's classical intervals, which assume normal numbers; nothing where they do not exist."""
    confidence = data.run.config.evaluation.confidence
    both = data.own_cases[list(pair.columns)].dropna().to_numpy()
    compared = both[(both > 0).all(axis=1)] if log else both
    try:
        correlation, shift = icc(both, confidence), bias(*compared.T, log=log, confidence=confidence)
    except ValueError:  # too few cases, or numbers that are all the same
        return ""
    low, high = (fixed(bound, 3 if log else 2) for bound in (shift.low, shift.high))
    return (
        f" Normal-theory intervals beside them: bias {low} to {high}{'' if log else f' {pair.unit}'}, ICC(A,1) "
        f"{fixed(correlation.low, 3)} to {fixed(correlation.high, 3)} (McGraw and Wong)."
    )
