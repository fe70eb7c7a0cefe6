"""Figures of the report as inline SVG: text stays text, colours are told apart by colour-blind readers (Okabe and Ito).

Drawn with matplotlib's objects, not pyplot: no global state, and the same numbers give the same bytes. Of every figure
`name` is part of its ids and the name of its files, `description` what a reader hears who cannot see it.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from server.reports.figures import vector_files
from server.run_folder.pictures import View

INK, MUTED, RULE, ACCENT, ALARM = "#1b2733", "#5a6b7b", "#dfe5ea", "#0072b2", "#d55e00"
REFERENCE, PREDICTION = "#56b4e9", "#e69f00"
SITES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: Any = {
    "svg.hashsalt": "fedbreast",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_SIZE = (4.2, 2.95)
FIELD_MM = 90.0
"""Edge of the square that shows a lesion, mm."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a learning curve: a round and a value for each point."""

    name: str
    rounds: Sequence[int]
    values: Sequence[float]


def learning_curves(
    curves: Sequence[Curve], *, label: str, name: str, description: str, best_round: int, mean: Curve | None = None
) -> Markup:
    """One line per site over the rounds, the mean of all cases in black, the chosen round as a vertical line."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for index, curve in enumerate(curves):
            colour, marker = SITES[index % len(SITES)], MARKERS[index % len(MARKERS)]
            axes.plot(curve.rounds, curve.values, color=colour, marker=marker, ms=3.5, lw=1.3, label=curve.name)
        if mean is not None:
            axes.plot(mean.rounds, mean.values, color=INK, lw=2.0, label=mean.name)
        axes.axvline(best_round, color=MUTED, lw=1.0, ls=(0, (4, 3)), label=f"chosen round ({best_round})")
        axes.set(xlabel="round", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend(axes, columns=2)
        return _svg(figure, name, description)


def view_panel(view: View, kind: str, name: str, description: str, *, field_mm: float = FIELD_MM) -> Markup:
    """One plane of a case in mm: reference outline solid, predicted outline dashed, scale bar, anatomical letters.

    Nested structures have an outline each; the panel is `field_mm` wide.
    """
    letters = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI", "projection": "RLAP"}[kind]
    with mpl.rc_context(_STYLE | {"axes.grid": False, "axes.linewidth": 0.0}):
        figure = Figure(figsize=(2.6, 2.6), facecolor="black")
        axes = figure.add_axes((0, 0, 1, 1), facecolor="black")
        rows, columns = view.image.shape
        height, width = rows * view.spacing[0], columns * view.spacing[1]
        low, high = np.percentile(view.image, [2, 99.7])
        extent = (-width / 2, width / 2, -height / 2, height / 2)
        # The z axis runs to superior: up on the page. The y axis runs to posterior: down on the page.
        origin: Literal["upper", "lower"] = "upper" if kind in {"axial", "projection"} else "lower"
        axes.imshow(
            view.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, origin=origin,
            interpolation="none",
        )  # fmt: skip
        for mask, colour, style in ((view.reference, REFERENCE, "solid"), (view.prediction, PREDICTION, "dashed")):
            for level in range(1, int(mask.max(initial=0)) + 1):
                inside = mask >= level
                _outline(axes, inside if origin == "lower" else inside[::-1], view.spacing, colour, style)
        half = field_mm / 2
        axes.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[])
        unit = field_mm / FIELD_MM  # of distances on the page, whatever the field
        right, low = half - 4 * unit, 5 * unit - half
        axes.plot([right - 20, right], [low, low], color="white", lw=2.0, solid_capstyle="butt")
        axes.text(right - 10, low + 2 * unit, "20 mm", color="white", ha="center", va="bottom", fontsize=10)
        spots = ((3 * unit - half, 0, "left", "center"), (half - 3 * unit, 0, "right", "center"),
                 (0, half - 2 * unit, "center", "top"), (0, 2 * unit - half, "center", "bottom"))  # fmt: skip
        for letter, (x, y, across, along) in zip(letters, spots, strict=True):
            axes.text(x, y, letter, color="#c9d3dc", ha=across, va=along, fontsize=10)
        return _svg(figure, name, description)


def _outline(axes: Axes, mask: np.ndarray, spacing: tuple[float, float], colour: str, style: str) -> None:
    """Contour of a mask whose row 0 is at the bottom; one empty voxel around it closes lines at the edge."""
    padded = np.pad(mask.astype(float), 1)
    y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(padded.shape, spacing, strict=True))
    axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=1.6, linestyles=style)


def _axes(height: float = _SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes, columns: int) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.8)


def _log_axis(axes: Axes, which: str, values: npt.ArrayLike) -> None:
    """Logarithmic axis with plain numbers, padded around positive values."""
    low, high = float(np.min(values)), float(np.max(values))
    pad = max(1.15, (high / low) ** 0.06)
    limits = {f"{which}scale": "log", f"{which}lim": (low / pad, high * pad)}
    axes.set(**limits)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """Inline SVG that scales with its box; ids carry `name`, so that no two figures of a page share one.

    Inside `vector_files.kept_in` the figure's vector files are written too.
    """
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    vector_files.keep(figure, name)
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would apply to the whole page
    text = text.replace("image-rendering:crisp-edges;image-rendering:pixelated", "")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    # Namespaces are implied in HTML, and a page without any address is easily seen to load nothing.
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    label = html.escape(description, quote=True)
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704 - escaped above
