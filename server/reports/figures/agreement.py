"""Bland-Altman plots: two measurements of one quantity, volume or density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _axes, _legend, _log_axis, _svg
from server.run_folder.results import ResultRow

_LIMITS = (("bias", "-", "bias"), ("limit_low", "--", "95% limits"), ("limit_high", "--", ""))


@dataclass(frozen=True, slots=True)
class Quantity:
    """What was measured twice.

    Attributes
    ----------
    predicted, reference
        Columns of the per-case table.
    metric
        Pattern of the rows' names, `{}` for `bias`, `limit_low` and `limit_high`.
    both, unit
        The two measurements in words, and their unit.

    """

    predicted: str
    reference: str
    metric: str
    both: str
    unit: str


VOLUME = Quantity("volume_ml", "reference_volume_ml", "volume_{}", "the two volumes", "ml")
DENSITY = Quantity("density_percent", "reference_density_percent", "{}_density", "the two densities", "%")


def bland_altman_plot(
    cases: pd.DataFrame,
    rows: Mapping[str, ResultRow],
    *,
    log: bool,
    description: str,
    quantity: Quantity = VOLUME,
    name: str = "bland-altman",
) -> Markup:
    """Difference (or, of volumes, ratio) against the mean; bias and limits with the intervals of `rows`.

    Parameters
    ----------
    cases
        One model's rows of the per-case table.
    rows
        The model's figures by metric.
    log
        Ratios in place of differences; their rows are named `volume_ratio_...`.
    description
        What a reader hears who cannot see it.
    quantity, name
        What was measured, and the figure's name on the page.

    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        predicted, reference = cases[quantity.predicted], cases[quantity.reference]
        metric = quantity.metric
        if log:
            positive = (predicted > 0) & (reference > 0)
            predicted, reference = predicted[positive], reference[positive]
            size, gap, metric = (predicted * reference) ** 0.5, predicted / reference, "volume_ratio_{}"
            across = f"geometric mean of {quantity.both}, {quantity.unit} ("
            upward = "predicted / reference volume"
        else:
            size, gap = (predicted + reference) / 2, predicted - reference
            across = f"mean of {quantity.both}, {quantity.unit} ("
            upward = f"predicted minus reference, {quantity.unit}"
        axes.axhline(1.0 if log else 0.0, color=MUTED, lw=0.8)
        for part, style, text in _LIMITS:
            row = rows.get(metric.format(part))
            if row is None or row.value is None:
                continue
            colour = ACCENT if part == "bias" else ALARM
            axes.axhline(row.value, color=colour, ls=style, lw=1.3, label=text or None)
            if row.ci_low is not None and row.ci_high is not None:
                axes.axhspan(row.ci_low, row.ci_high, color=colour, alpha=0.12, lw=0)
        axes.scatter(size, gap, s=18, color=INK, zorder=3)
        axes.set(xlabel=f"{across}n = {len(gap)})", ylabel=upward)
        if log and len(gap):
            _log_axis(axes, "x", size)
            shown = [row for part, _, _ in _LIMITS if (row := rows.get(metric.format(part))) is not None]
            bounds = [bound for row in shown for bound in (row.value, row.ci_low, row.ci_high) if bound is not None]
            _log_axis(axes, "y", [*gap, *bounds])
        _legend(axes, columns=2)
        return _svg(figure, name, description)
