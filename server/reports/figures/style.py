"""Figures of the report as inline SVG: text stays text, colours are told apart by colour-blind readers (Okabe and Ito).

Drawn with matplotlib's objects, not pyplot: no global state, and the same numbers give the same bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from server.reports.figures import vector_files
from server.run_folder.pictures import FIELD_OF_VIEW_MM, View
from server.run_folder.results import ResultRow

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


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a learning curve: rounds and values, one pair a point."""

    name: str
    rounds: Sequence[int]
    values: Sequence[float]


def learning_curves(
    curves: Sequence[Curve], *, label: str, name: str, description: str, best_round: int, mean: Curve | None = None
) -> Markup:
    """One line a site over the rounds, the mean of all cases in black, the chosen round as a vertical line."""
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


def dice_strip(cases: pd.DataFrame, row: ResultRow, description: str) -> Markup:
    """Dice of every case in order, the mean with its interval as a band, failures as crosses."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        ordered = cases.sort_values(["dice", "case"], ignore_index=True)
        rank = np.arange(1, len(ordered) + 1)
        failed = ordered["failed"].to_numpy(bool)
        if row.value is not None:
            axes.axhline(row.value, color=ACCENT, lw=1.4, label="mean")
        if row.ci_low is not None and row.ci_high is not None:
            axes.axhspan(row.ci_low, row.ci_high, color=ACCENT, alpha=0.15, lw=0, label="its interval")
        axes.scatter(rank[~failed], ordered["dice"][~failed], s=18, color=INK, zorder=3, clip_on=False)
        if failed.any():
            axes.scatter(rank[failed], ordered["dice"][failed], s=30, color=ALARM, marker="x", zorder=3, clip_on=False,
                         label="nothing predicted")  # fmt: skip
        axes.set(xlabel=f"cases in order of Dice (n = {len(ordered)})", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, columns=3)
        return _svg(figure, "dice-strip", description)


def dice_by_size(cases: pd.DataFrame, description: str) -> Markup:
    """Dice against the reference volume on a log axis."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        known = cases[cases["reference_volume_ml"] > 0]
        for failed, colour, marker in ((False, ACCENT, "o"), (True, ALARM, "x")):
            part = known[known["failed"] == failed]
            axes.scatter(
                part["reference_volume_ml"], part["dice"], s=22, color=colour, marker=marker, zorder=3, clip_on=False
            )
        axes.set(xlabel=f"reference volume, ml (log scale, n = {len(known)})", ylabel="Dice", ylim=(0, 1))
        if len(known):
            _log_axis(axes, "x", known["reference_volume_ml"])
        return _svg(figure, "dice-size", description)


def volume_scatter(cases: pd.DataFrame, description: str) -> Markup:
    """Predicted against reference volume on log axes, with the line of equality; failures have no place on it."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        known = cases[(cases["reference_volume_ml"] > 0) & (cases["volume_ml"] > 0)]
        axes.set(xlabel=f"reference volume, ml (log scale, n = {len(known)})", ylabel="predicted volume, ml")
        if len(known):
            both = known[["reference_volume_ml", "volume_ml"]].to_numpy()
            axes.axline((1, 1), (2, 2), color=MUTED, lw=1.0, ls=(0, (4, 3)), label="equal volumes")
            axes.scatter(both[:, 0], both[:, 1], s=18, color=ACCENT, zorder=3)
            for which in ("x", "y"):
                _log_axis(axes, which, both)
            _legend(axes, columns=1)
        return _svg(figure, "volumes", description)


def forest(rows: Mapping[str, ResultRow], *, label: str, description: str) -> Markup:
    """One line a model: the figure and its interval."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=0.9 + 0.32 * len(rows))
        for index, row in enumerate(rows.values()):
            if row.value is None:
                continue
            if row.ci_low is not None and row.ci_high is not None:
                axes.plot([row.ci_low, row.ci_high], [index, index], color=INK, lw=1.4)
            axes.plot([row.value], [index], marker="s", ms=6, color=ACCENT if index == 0 else INK, ls="")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        return _svg(figure, "forest", description)


def view_panel(view: View, kind: str, name: str, description: str, *, field_mm: float = FIELD_OF_VIEW_MM) -> Markup:
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
        unit = field_mm / FIELD_OF_VIEW_MM  # of distances on the page, whatever the field
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

    Inside `vectors.kept_in` the figure's vector files are written too.
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
