"""Figures of a network of mammograms: heat over both views, before and after training, and its levels' mean maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from server.reports.figures.saliency import _blend
from server.reports.figures.style import _STYLE, INK, MUTED, REFERENCE, _outline, _svg
from shared.grad_cam import enlarged
from shared.tasks.mammogram_heat import LEVEL
from shared.types import FloatArray

Arrays = Mapping[str, Any]
"""Of one case, as `mammogram_heat.picture` makes them."""
_VIEW, _NETWORKS = "view", {"heat": "trained", "untrained": "before training"}
"""Titles of the columns."""
_WIDTH, _MOST = 6.4, 7.0  # inches of a figure, and most of its height
_BAR, _TITLES = 0.8, 0.55  # inches beside and above the panels
_SHARP = 96  # pixels of a longer side


def heat_panel(arrays: Arrays, *, title: str, name: str) -> Markup:
    """Draw each view in grey, with the heat of the trained network over it, and with that of the untrained one.

    Heat is drawn in shares of its own maximum in that view; where no place raises the score, the panel says so.
    """
    images = np.asarray(arrays["image"], np.float32)
    shape = images.shape[1], images.shape[2]
    columns = {_VIEW: np.zeros_like(images)} | {
        above: enlarged(torch.from_numpy(np.asarray(arrays[key], np.float32)), shape).numpy()
        for key, above in _NETWORKS.items()
    }
    colours = ScalarMappable(Normalize(0.0, 1.0), "inferno")
    views = [str(view) for view in arrays["views"]]
    places = " x ".join(map(str, arrays["heat"].shape[1:]))
    description = (
        f"{' and '.join(views)} of one breast (n = 1). {title}. Heat (Grad-CAM, {places} places) of the true class by "
        "the trained network and by the same network before training. Line: the lesion's outline, where there is one."
    )
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure, panels = _panels(len(views), len(columns), shape, title, bar=True)
        for row, view in enumerate(views):
            low, high = np.percentile(images[row], [1, 99.7])
            grey = np.asarray(Normalize(low, max(high, low + 1e-6), clip=True)(images[row]), np.float32)
            for axes, (above, heat) in zip(panels[row], columns.items(), strict=True):
                most = float(heat[row].max())
                _show(axes, _blend(grey, heat[row] / (most or 1.0), colours))
                if arrays["outline"][row].any():
                    _outline(axes, arrays["outline"][row][::-1], (1.0, 1.0), REFERENCE, "solid")
                if not most and above != _VIEW:
                    axes.set_xlabel("no place raises the score", color=MUTED, fontsize=8)
                if not row:
                    axes.set_title(above, fontsize=9, color=MUTED)
            panels[row, 0].set_ylabel(view, color=MUTED)
        bar = figure.colorbar(colours, ax=list(panels.ravel()), shrink=0.7, pad=0.02, aspect=30)
        bar.set_label("heat over its maximum")
        return _svg(figure, name, description)


def levels_panel(arrays: Arrays, *, title: str, name: str) -> Markup:
    """Draw the mean of the maps behind each level, for each view, every panel from its least to its greatest value."""
    levels = {key.removeprefix(LEVEL): np.asarray(value) for key, value in arrays.items() if key.startswith(LEVEL)}
    views = [str(view) for view in arrays["views"]]
    description = (
        f"{' and '.join(views)} of one breast (n = 1). {title}. Mean activation behind {', '.join(levels)}, from fine "
        "to coarse maps."
    )
    shape = arrays["image"].shape[1], arrays["image"].shape[2]
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure, panels = _panels(len(views), len(levels), shape, title)
        for column, (level, maps) in enumerate(levels.items()):
            times = max(1, _SHARP // max(maps.shape[1:]))  # a browser would blur a picture of a few pixels
            for row, view in enumerate(views):
                _show(panels[row, column], maps[row].repeat(times, axis=0).repeat(times, axis=1), shape)
                panels[row, 0].set_ylabel(view, color=MUTED)
            panels[0, column].set_title(level, fontsize=9, color=MUTED)
        return _svg(figure, name, description)


def _panels(
    rows: int, columns: int, shape: Sequence[int], title: str, *, bar: bool = False
) -> tuple[Figure, np.ndarray[Any, np.dtype[np.object_]]]:
    """A figure of panels as wide as high as `shape`, and no higher than a page takes."""
    width = (_WIDTH - _BAR * bar) / columns
    height = min(_MOST, rows * width * shape[0] / shape[1] + _TITLES)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize=10, color=INK)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(axes: Axes, picture: FloatArray, shape: Sequence[int] | None = None) -> None:
    """A picture whose first row is at the top, centred on 0, one unit a pixel or as large as `shape`."""
    height, width = shape or picture.shape[:2]
    extent = (-width / 2, width / 2, -height / 2, height / 2)
    axes.imshow(picture, cmap="magma", extent=extent, interpolation="none")
    axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    axes.spines[:].set_visible(False)
