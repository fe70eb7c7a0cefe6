"""Figures of stored rows as inline SVG: arms side by side, agreement on Ki-67."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _axes, _legend, _svg
from server.run_folder.results import ResultRow

DASHED = (0, (4, 3))

Rows = Mapping[str, ResultRow]
"""Rows by metric."""


def forest(
    groups: Mapping[str, Rows], *, label: str, name: str, description: str, reference: float | None = 0.5
) -> Markup:
    """One line an arm in groups, each under its heading when there are several; `reference` is a dashed line.

    The first line of a group is the one that the others are read against. A figure that does not exist is named so.
    """
    lines: list[tuple[str, ResultRow | None, bool]] = []
    for heading, rows in groups.items():
        lines += [(heading, None, False)] if len(groups) > 1 else []
        lines += [(arm, row, index == 0) for index, (arm, row) in enumerate(rows.items())]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=0.9 + 0.25 * len(lines))
        if reference is not None:
            axes.axvline(reference, color=MUTED, lw=0.9, ls=DASHED)
        for place, (_, row, first) in enumerate(lines):
            if row is None:
                continue
            colour = ACCENT if first else INK
            if row.value is None:
                axes.text(0.5, place, "undefined", color=MUTED, va="center", ha="center", fontsize=8,
                          transform=axes.get_yaxis_transform())  # fmt: skip
                continue
            if row.ci_low is not None and row.ci_high is not None:
                axes.plot([row.ci_low, row.ci_high], [place, place], color=colour, lw=1.4)
            bare = row.ci_low is None
            axes.plot([row.value], [place], marker="D" if bare else "s", ms=5, color=colour, ls="",
                      mfc="white" if bare else colour)  # fmt: skip
        axes.set_yticks(range(len(lines)), [text for text, *_ in lines])
        for tick, (_, row, _) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_color(INK if row is None else MUTED)
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        return _svg(figure, name, description)


def ki67_agreement(cases: pd.DataFrame, rows: Rows, *, name: str, description: str) -> Markup:
    """Predicted minus true Ki-67 against their mean, points; bias and limits with the intervals of `rows`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        axes.axhline(0.0, color=MUTED, lw=0.8)
        for metric, style, text in (("bias", "-", "bias"), ("limit_low", "--", "95% limits"), ("limit_high", "--", "")):
            row = rows.get(f"{metric}_ki67")
            if row is None or row.value is None:
                continue
            colour = ACCENT if metric == "bias" else ALARM
            axes.axhline(row.value, color=colour, ls=style, lw=1.3, label=text or None)
            if row.ci_low is not None and row.ci_high is not None:
                axes.axhspan(row.ci_low, row.ci_high, color=colour, alpha=0.12, lw=0)
        axes.scatter((cases["score"] + cases["truth"]) / 2, cases["score"] - cases["truth"], s=18, color=INK, zorder=3)
        axes.set(
            xlabel=f"mean of predicted and true Ki-67, % (n = {len(cases)})", ylabel="predicted minus true, points"
        )
        if axes.get_legend_handles_labels()[0]:
            _legend(axes, columns=2)
        return _svg(figure, name, description)
