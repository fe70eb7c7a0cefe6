"""Preview of a centre's mammograms: the four views of some patients, as they are hung in a reading room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from shared.phantom.benign import BenignLabels
from shared.phantom.compression import VIEWS, View
from shared.phantom.exam import Body
from shared.phantom.mammograms import Mammogram, make_mammograms
from shared.phantom.settings import PhantomSettings
from shared.types import Side

mpl.use("Agg")
import matplotlib.pyplot as plt

_HUNG: tuple[tuple[Side, View], ...] = (("right", "CC"), ("left", "CC"), ("right", "MLO"), ("left", "MLO"))
_COLUMNS = ("R CC", "L CC", "R MLO", "L MLO", "index lesion, CC", "index lesion, MLO")
_INCH_PER_MM = 0.016
_CLOSE_MM = 70.0  # width of the close-up of a lesion


def draw_mammograms(bodies: Sequence[Body], path: Path, settings: PhantomSettings) -> None:
    """Write a PNG with one row per patient: all four views, then the index lesion closer up with its outline."""
    pictures = [make_mammograms(body, settings) for body in bodies]
    shapes = np.array([np.array(views[0].grey.shape) * views[0].geometry.pixel for views in pictures])
    height, width = shapes.max(axis=0)
    widths = [width] * 4 + [height] * 2
    left, top = 0.55, 0.55  # inches kept for labels and titles
    high, wide = top + len(bodies) * height * _INCH_PER_MM, left + sum(widths) * _INCH_PER_MM
    figure, axes = plt.subplots(
        len(bodies),
        len(_COLUMNS),
        figsize=(wide, high),
        squeeze=False,
        gridspec_kw={"width_ratios": widths},
        facecolor="black",
    )
    for row, body, views in zip(axes, bodies, pictures, strict=True):
        _draw_row(row, body, views)
    for axis, name in zip(axes[0], _COLUMNS, strict=True):
        axis.set_title(name, color="white", fontsize=8, pad=3)
    figure.suptitle(
        f"PHANTOM, not patient data    centre {bodies[0].place.key}, n = {len(bodies)} shown, seed {settings.seed}",
        color="white",
        fontsize=10,
        y=1.0 - 0.08 / high,
        va="top",
    )
    figure.subplots_adjust(left=left / wide, right=0.998, top=1.0 - top / high, bottom=0.003, wspace=0.01, hspace=0.02)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _draw_row(row: npt.NDArray[np.object_], body: Body, views: Sequence[Mammogram]) -> None:
    by_name = {(picture.side, picture.view): picture for picture in views}
    for axis, name in zip(row, _HUNG, strict=False):
        _show(axis, by_name[name])
    for axis, view in zip(row[4:], VIEWS, strict=True):
        picture = by_name[body.side, view]
        _show(axis, picture)
        (at,), _ = picture.geometry.project(np.array(body.lesion.centre)[None])
        half = 0.5 * _CLOSE_MM / picture.geometry.pixel
        if picture.lesion is not None:
            axis.contour(picture.lesion, levels=[0.5], colors=["#ffcc00"], linewidths=0.5, alpha=0.6)
        turned = picture.side == "right"
        axis.set_xlim(*((at[1] + half, at[1] - half) if turned else (at[1] - half, at[1] + half)))
        axis.set_ylim(at[0] + half, at[0] - half)
    labels = body.labels
    finding = f"benign {labels.kind}" if isinstance(labels, BenignLabels) else labels.subtype
    row[0].set_ylabel(
        f"{body.patient_id}, {body.side}\n{finding}\ndensity {labels.density}, {body.latents.diameter_mm:.0f} mm",
        color="white",
        fontsize=6,
    )


def _show(axis: Axes, picture: Mammogram) -> None:
    axis.imshow(picture.grey, cmap="gray", vmin=0.0, vmax=1.0, interpolation="bilinear")
    if picture.side == "right":
        axis.invert_xaxis()
    axis.set_facecolor("black")
    axis.set_xticks([])
    axis.set_yticks([])
