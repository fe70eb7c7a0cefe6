"""A predicted number against its reference as inline SVG: Bland-Altman plot, and one against the other."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _axes, _legend, _log_axis, _svg
from server.run_folder.results import ResultRow
from shared.metrics.paired_numbers import NumberPair

_LIMITS = (("bias", "-", "bias"), ("limit_low", "--", "95% limits"), ("limit_high", "--", ""))


def bland_altman_plot(
    cases: pd.DataFrame,
    rows: Mapping[str, ResultRow],
    *,
    quantity: NumberPair,
    log: bool,
    name: str,
    description: str,
) -> Markup:
    """One model's differences against the mean of both; bias and limits with the intervals of `rows`, by metric.

    With `log` ratios in place of differences; cases where one of the two is 0 have none.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        predicted, reference = known_pairs(cases, quantity, positive=log)
        part_of = "ratio_{}" if log else "{}"
        if log:
            size, gap, upward = (predicted * reference) ** 0.5, predicted / reference, "predicted / reference"
        else:
            size, gap = (predicted + reference) / 2, predicted - reference
            upward = f"predicted minus reference, {quantity.unit}"
        axes.axhline(1.0 if log else 0.0, color=MUTED, lw=0.8)
        bounds = list(gap)
        for part, line, text in _LIMITS:
            row = rows.get(quantity.pattern.format(part_of.format(part)))
            if row is None or row.value is None:
                continue
            colour = ACCENT if text == "bias" else ALARM
            axes.axhline(row.value, color=colour, ls=line, lw=1.3, label=text or None)
            if row.ci_low is not None and row.ci_high is not None:
                axes.axhspan(row.ci_low, row.ci_high, color=colour, alpha=0.12, lw=0)
            bounds += [bound for bound in (row.value, row.ci_low, row.ci_high) if bound is not None]
        axes.scatter(size, gap, s=18, color=INK, zorder=3)
        mean = "geometric mean" if log else "mean"
        axes.set(xlabel=f"{quantity.title}, {quantity.unit}: {mean} of both (n = {len(gap)})", ylabel=upward)
        if log and len(gap):
            _log_axis(axes, "x", size)
            _log_axis(axes, "y", bounds)
        _legend(axes, columns=2)
        return _svg(figure, name, description)


def scatter_plot(cases: pd.DataFrame, *, quantity: NumberPair, log: bool, name: str, description: str) -> Markup:
    """Predicted against reference number with the line of equality; parameters as `bland_altman_plot`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        predicted, reference = known_pairs(cases, quantity, positive=log)
        scale = "log scale, " if log else ""
        axes.set(
            xlabel=f"reference {quantity.title}, {quantity.unit} ({scale}n = {len(reference)})",
            ylabel=f"predicted, {quantity.unit}",
        )
        if len(reference):
            axes.axline((1, 1), (2, 2), color=MUTED, lw=1.0, ls=(0, (4, 3)), label="equal")
            axes.scatter(reference, predicted, s=18, color=ACCENT, zorder=3)
            if log:
                for which in ("x", "y"):
                    _log_axis(axes, which, [*predicted, *reference])
            _legend(axes, columns=1)
        return _svg(figure, name, description)


def known_pairs(cases: pd.DataFrame, quantity: NumberPair, *, positive: bool) -> tuple[pd.Series, pd.Series]:
    """Predicted and reference numbers of the cases that have both; where `positive`, only those above 0."""
    both = cases[list(quantity.columns)].dropna()
    if positive:
        both = both[(both > 0).all(axis=1)]
    return both.iloc[:, 0], both.iloc[:, 1]
