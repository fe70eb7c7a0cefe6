"""Forest plots: one line for each centre, then all centres together, with the interval for a centre yet unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from server.reports.figures.style import _STYLE, ACCENT, INK, MUTED, _svg

_MARGIN = 0.4  # of the intervals' span, left free on both sides for a prediction interval that is wider
_WIDTH = 4.4
_DASHED = (0, (4, 3))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a forest plot: its name on the left, its figure as `text` on the right."""

    name: str
    text: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    kind: Literal["centre", "all", "model", "heading"] = "centre"
    """`centre` a square, `all` a diamond marker, `model` the random-effects diamond, `heading` words alone."""
    ranked: bool = True
    """False: too few cases, drawn open."""
    prediction: tuple[float, float] | None = None
    """Interval for a new centre, of a `model` line."""


def forest_plot(
    lines: Sequence[Line],
    *,
    label: str,
    name: str,
    description: str,
    reference: float | None = None,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    """Draw the lines, at least one, from above to below.

    The dashed `reference` is no difference, or chance; the axis never goes beyond `bounds`, the figure's own range.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.75 + 0.27 * len(lines)), layout="constrained")
        axes = figure.add_subplot()
        left, right = _limits(lines, reference, bounds)
        axes.set(xlim=(left, right), ylim=(len(lines) - 0.4, -0.7), xlabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if reference is not None:
            axes.axvline(reference, color=MUTED, lw=0.9, ls=_DASHED)
        for place, line in enumerate(lines):
            _draw(axes, place, line, (left, right))
        axes.set_yticks(range(len(lines)), ["" if line.kind == "heading" else line.name for line in lines])
        for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if line.kind == "model" else "normal")
            tick.set_color(INK if line.ranked else MUTED)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        return _svg(figure, name, description)


def _draw(axes: Axes, place: int, line: Line, limits: tuple[float, float]) -> None:
    if line.kind == "heading":
        # From the figure's left edge over the plot, where this line draws nothing: the names beside it stay narrow.
        edge = blended_transform_factory(axes.figure.transFigure, axes.transData)
        axes.text(0.01, place, line.name, va="center", fontweight="bold", transform=edge, in_layout=False,
                  bbox={"fc": "white", "ec": "none", "pad": 1.0})  # fmt: skip
    if line.text:
        axes.text(1.04, place, line.text, va="center", fontsize=8, color=INK if line.ranked else MUTED,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    if line.kind == "heading" or line.value is None:
        return
    if line.prediction is not None:
        _prediction(axes, place, line.prediction, limits)
    if line.kind == "model":
        if line.low is not None and line.high is not None:
            across = [line.low, line.value, line.high, line.value]
            axes.fill(across, [place, place - 0.26, place, place + 0.26], color=ACCENT, lw=0, zorder=3)
        return
    colour = ACCENT if line.kind == "all" else INK
    if line.low is not None and line.high is not None:
        axes.plot([line.low, line.high], [place, place], color=colour if line.ranked else MUTED, lw=1.4,
                  ls="-" if line.ranked else (0, (3, 2)))  # fmt: skip
    axes.plot([line.value], [place], marker="D" if line.kind == "all" else "s", ms=5.5, ls="", color=colour,
              mfc=colour if line.ranked else "white", zorder=3, clip_on=False)  # fmt: skip


def _prediction(axes: Axes, place: int, interval: tuple[float, float], limits: tuple[float, float]) -> None:
    """A thin bar with caps; an arrow where it leaves the axis."""
    low, high = (min(max(bound, limits[0]), limits[1]) for bound in interval)
    axes.plot([low, high], [place, place], color=MUTED, lw=1.0, zorder=2)
    ends = ((low, interval[0] < limits[0], "<"), (high, interval[1] > limits[1], ">"))
    for at, beyond, arrow in ends:
        axes.plot([at], [place], marker=arrow if beyond else "|", ms=5, color=MUTED, ls="", clip_on=False, zorder=2)


def _limits(lines: Sequence[Line], reference: float | None, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Wide enough for every interval; a prediction interval from a few centres may be wider than any axis."""
    known = [end for line in lines for end in (line.value, line.low, line.high) if end is not None]
    known += [reference] if reference is not None else []
    if not known:
        return bounds or (0.0, 1.0)
    low, high = min(known), max(known)
    margin = _MARGIN * (high - low) or 0.5 * abs(high) or 0.5
    predicted = [end for line in lines if line.prediction for end in line.prediction]
    left = max(low - margin, min([low - 0.05 * (high - low), *predicted]) - 0.02 * margin)
    right = min(high + margin, max([high + 0.05 * (high - low), *predicted]) + 0.02 * margin)
    if bounds is not None:
        left, right = max(left, bounds[0]), min(right, bounds[1])
    return (left, right) if right > left else (left - 0.5, right + 0.5)
