"""Figures of where a network looks: one case's map over its planes, and the regions by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from server.evaluation.saliency import DIFFERENCE, LEARNT
from server.reports.figures.style import _STYLE, INK, MARKERS, MUTED, REFERENCE, SITES, _axes, _outline, _svg
from server.reports.metric_text import DASH
from shared.models.ensemble_resnet import PLANES
from shared.models.lesion_measures import voxel_edge
from shared.saliency import REGIONS, region_means
from shared.types import FloatArray

_COMPARISONS = {DIFFERENCE: "as read", LEARNT: "beyond an untrained network"}
_MINUS = "\N{MINUS SIGN}"
_FIRST_UPTAKE = 1  # channel of a patch
_BAR_MM = 10.0
_OPAQUE = 0.75  # of the overlay at its strongest: the lesion must shine through
_LEAST_SCALE = 2.0  # times the mean: a map without preference must not blaze
_SMOOTH = 1.0  # voxels: gradients of convolutions differ from voxel to voxel, and the eye would see only that


def saliency_panel(patch: FloatArray, saliency: FloatArray, *, title: str, probability: float, name: str) -> Markup:
    """Draw the three middle planes of one case: first uptake in grey, saliency over it, the lesion's contour.

    Parameters
    ----------
    patch
        float32 `(channel + 1, z, y, x)`; see `lesion_patch.cut_patch`.
    saliency
        float32 `(z, y, x)` of the true class's score; drawn over its mean in the patch, on one scale for all planes.
    title, probability
        The true class as shown, and what the network gave it.

    """
    image, distance = patch[_FIRST_UPTAKE], patch[-1]
    edge = float(voxel_edge(torch.from_numpy(np.array(distance[None], np.float32)))[0])
    shown = [_relative(saliency, axis) for axis in range(len(PLANES))]
    strongest = max(_LEAST_SCALE, *(float(plane.max()) for plane in shown))
    colours = ScalarMappable(Normalize(0.0, strongest), "inferno")
    low, high = np.percentile(image, [1, 99.7])
    greys = Normalize(low, high, clip=True)
    means = region_means(saliency, distance)
    told = ", ".join(f"{region} {means[region]:.2g}" for region in REGIONS if np.isfinite(means[region]))
    title = f"{title}, predicted with probability {probability:.2f}"
    description = (
        f"Middle planes of one lesion (n = 1). True class: {title}. Saliency per voxel over the mean of the patch: "
        f"{told}. Line: the contour of the lesion. Smoothed for the eye."
    )
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(6.6, 2.5), layout="constrained")
        figure.suptitle(title, fontsize=10, color=INK)
        panels = figure.subplots(1, len(PLANES))
        for axis, (axes, plane) in enumerate(zip(panels, PLANES, strict=True)):
            # z runs to superior, up on the page; y runs to posterior, down on an axial page.
            turn = slice(None, None, -1 if plane == "axial" else 1)
            picture = _blend(greys(_middle(image, axis)), shown[axis], colours)[turn]
            height, width = (0.5 * edge * size for size in picture.shape[:2])
            extent = (-width, width, -height, height)
            axes.imshow(picture, extent=extent, origin="lower", interpolation="none")
            _outline(axes, (_middle(distance, axis) > 0)[turn], (edge, edge), REFERENCE, "solid")
            axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
            axes.set_xlabel(plane, color=MUTED)
            axes.spines[:].set_visible(False)
        right, bottom = 0.94 * width, -0.92 * height
        axes.plot([right - _BAR_MM, right], [bottom, bottom], color="white", lw=2.0, solid_capstyle="butt")
        axes.text(right, bottom + 0.04 * height, "10 mm", color="white", ha="right", va="bottom", fontsize=8)
        bar = figure.colorbar(colours, ax=list(panels), shrink=0.9, pad=0.02)
        bar.set_label("saliency over its mean")
        return _svg(figure, name, description)


def _middle(field: FloatArray, axis: int) -> FloatArray:
    plane: FloatArray = field.take(field.shape[axis] // 2, axis=axis)
    return plane


def _relative(saliency: FloatArray, axis: int) -> FloatArray:
    """The middle plane over the whole patch's mean, smoothed."""
    mean = float(saliency.mean())
    smooth: FloatArray = gaussian_filter(_middle(saliency, axis), _SMOOTH) / (mean if mean > 0 else 1.0)
    return smooth


def _blend(grey: FloatArray, plane: FloatArray, colours: ScalarMappable) -> FloatArray:
    """Colours over grey `(row, column, 3)`, the more opaque the stronger: what is not looked at stays grey.

    As one picture, since matplotlib's SVG drops the transparency of a second one.
    """
    share = _OPAQUE * np.clip(colours.norm(plane), 0.0, 1.0)[..., None]
    mixed: FloatArray = (1 - share) * np.asarray(grey)[..., None] + share * colours.to_rgba(plane)[..., :3]
    return mixed


def saliency_by_region(summary: pd.DataFrame, classes: Mapping[str, str], *, reader: str, name: str) -> Markup:
    """Draw one reader's `saliency_summary` by region and class: a point and its interval; 1 is no preference."""
    own = summary[summary["reader"] == reader]
    told = _findings(own)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=3.4)
        axes.axhline(1.0, color=MUTED, lw=1.0, ls=(0, (4, 3)))
        for index, (one, title) in enumerate(classes.items()):
            rows = _by_region(own, one)
            where = np.arange(len(REGIONS)) + 0.16 * (index - (len(classes) - 1) / 2)
            colour = SITES[index]
            axes.vlines(where, rows["low"], rows["high"], color=colour, lw=1.4)
            axes.plot(where, rows["value"], color=colour, marker=MARKERS[index], ms=5, ls="",
                      label=f"{title}, {_count(rows)}")  # fmt: skip
        axes.set_xticks(range(len(REGIONS)), list(REGIONS))
        axes.grid(visible=False, axis="x")
        axes.set(ylabel="saliency over its mean", xlabel="\n".join(told), xlim=(-0.5, len(REGIONS) - 0.5))
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.1, 1), ncols=2, handlelength=1.0, columnspacing=1.0)
        return _svg(figure, name, _by_region_text(own, classes, reader, told))


def _by_region(own: pd.DataFrame, one: str) -> pd.DataFrame:
    return own[own["subtype"] == one].set_index("region").loc[list(REGIONS)]


def _count(rows: pd.DataFrame) -> str:
    """Cases of a class; small lesions lack a core, so regions can differ."""
    low, high = int(rows["n"].min()), int(rows["n"].max())
    return f"n = {high}" if low == high else f"n = {low} to {high}"


def _findings(own: pd.DataFrame) -> list[str]:
    """The comparison around the lesion in words: its name, then one line per row that the summary has."""
    lines: list[str] = []
    for label, text in _COMPARISONS.items():
        for row in own[own["subtype"] == label].to_dict("records"):
            number, low, high = (f"{row[part]:+.2f}".replace("-", _MINUS) for part in ("value", "low", "high"))
            known = f"{number} ({low} to {high})" if np.isfinite(row["low"]) else number
            heading = f"{row['region'].capitalize()}, {DIFFERENCE.replace('_', ' ')}, n = {row['n']}"
            lines += [*([] if lines else [heading]), f"{text}: {known if np.isfinite(row['value']) else DASH}"]
    return lines


def _by_region_text(own: pd.DataFrame, classes: Mapping[str, str], reader: str, told: Sequence[str]) -> str:
    """What the figure shows, for those who do not see it."""
    parts = []
    for one, title in classes.items():
        rows = _by_region(own, one)
        values = zip(REGIONS, rows["value"], strict=True)
        known = ", ".join(f"{region} {value:.2f}" for region, value in values if np.isfinite(value))
        parts.append(f"{title} ({_count(rows)}): {known or DASH}.")
    return " ".join(
        [f"Saliency per voxel over its mean by region, reader: {reader}.", *parts, *(f"{x}." for x in told)]
    )
