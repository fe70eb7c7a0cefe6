"""Figures of one outlined structure as inline SVG: the Dice of every case in order, and by size."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, _axes, _legend, _log_axis, _svg
from server.run_folder.results import ResultRow


def dice_strip(dice: pd.Series, failed: pd.Series, row: ResultRow, *, name: str, description: str) -> Markup:
    """Dice of every case in order, the mean (`row`) with its interval as a band, cases that `failed` as crosses.

    A case failed where exactly one of its outlines is empty.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        order = np.argsort(dice.to_numpy(), kind="stable")
        height, crossed = dice.to_numpy()[order], failed.to_numpy(bool)[order]
        rank = np.arange(1, len(height) + 1)
        if row.value is not None:
            axes.axhline(row.value, color=ACCENT, lw=1.4, label="mean")
        if row.ci_low is not None and row.ci_high is not None:
            axes.axhspan(row.ci_low, row.ci_high, color=ACCENT, alpha=0.15, lw=0, label="its interval")
        axes.scatter(rank[~crossed], height[~crossed], s=18, color=INK, zorder=3, clip_on=False)
        if crossed.any():
            axes.scatter(rank[crossed], height[crossed], s=30, color=ALARM, marker="x", zorder=3, clip_on=False,
                         label="nothing predicted")  # fmt: skip
        axes.set(xlabel=f"cases in order of Dice (n = {len(height)})", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, columns=3)
        return _svg(figure, name, description)


def dice_by_size(
    dice: pd.Series, failed: pd.Series, size: pd.Series, *, label: str, name: str, description: str
) -> Markup:
    """Dice against a size in the reference on a log axis, `label` below it; other parameters as `dice_strip`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        known = size > 0
        for part, colour, marker in ((known & ~failed, ACCENT, "o"), (known & failed, ALARM, "x")):
            axes.scatter(size[part], dice[part], s=22, color=colour, marker=marker, zorder=3, clip_on=False)
        axes.set(xlabel=f"{label} (log scale, n = {known.sum()})", ylabel="Dice", ylim=(0, 1))
        if known.any():
            _log_axis(axes, "x", size[known])
        return _svg(figure, name, description)
