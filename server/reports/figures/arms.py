"""Figures of stored rows as inline SVG: arms side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
from markupsafe import Markup

from server.reports.figures.style import _STYLE, ACCENT, INK, MUTED, _axes, _svg
from server.run_folder.results import ResultRow

DASHED = (0, (4, 3))

Rows = Mapping[str, ResultRow]
"""Rows by metric."""


def forest(
    groups: Mapping[str, Rows], *, label: str, name: str, description: str, reference: float | None = 0.5
) -> Markup:
    """One line per arm in groups, each under its heading when there are several; `reference` is a dashed line.

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
