"""Volumes as a fragment of the page: three linked planes per case, with everything they need inside the page.

Without the script every plane shows its slice through the lesion; `volume_viewer.js` puts canvases in its place. The
page's author puts `volume_viewer.css` and `viewer_script()` on the page once.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.image import imsave

from server.reports.figures.style import FIELD_MM
from server.reports.templates import environment, source
from server.run_folder.pictures import PLANES, largest_section
from server.run_folder.volumes import Volume
from shared.types import BoolArray

MAX_BYTES = 400_000
"""Of a case in the page."""
_STILL_BYTES = 60_000  # of these for the slices without the script, and the controls
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom of the page
_AXES = {"axial": "z", "coronal": "y", "sagittal": "x"}


def volume_figures(volumes: Sequence[Volume]) -> Markup:
    """One figure per volume, less than `MAX_BYTES` each; the same every time.

    Where a noisy image does not fit, its finest grey levels are dropped: 128, 64, ... of 256 are left.
    """
    text = environment().get_template("volume_viewer.html").render(volumes=[_volume(volume) for volume in volumes])
    return Markup(text)  # noqa: S704 - escaped by the template


def viewer_script() -> Markup:
    """The script for one `<script>` element of the page; its SHA-256 is what a security policy names."""
    return Markup(source("volume_viewer.js"))  # noqa: S704 - our own file


def _volume(volume: Volume) -> dict[str, Any]:
    start = largest_section(volume.reference if volume.reference.any() else volume.prediction)
    sizes = [n * step for n, step in zip(volume.image.shape, volume.spacing, strict=True)]
    field = float(f"{max(FIELD_MM, *sizes):.4g}")
    data = {
        "title": f"{volume.label} case {volume.case}",
        "shape": volume.image.shape,
        "spacing": volume.spacing,
        "bounds": volume.bounds,
        "start": start,
        "field": field,
    }
    return {
        "data": json.dumps(data),
        "voxels": _packed(volume),
        "label": volume.label.capitalize(),
        "case": volume.case,
        "field": field,
        "planes": [_plane(volume, axis, start[axis], field) for axis in range(len(PLANES))],
    }


def _packed(volume: Volume) -> str:
    """Voxels and both masks' bits, deflated, as base64: in as many grey levels as fit."""
    masks = np.packbits(volume.reference).tobytes() + np.packbits(volume.prediction).tobytes()
    most = (MAX_BYTES - _STILL_BYTES) * 3 // 4
    for dropped in range(8):
        packed = zlib.compress((volume.image >> dropped << dropped).tobytes() + masks, 9)
        if len(packed) <= most:
            break
    return base64.b64encode(packed).decode()


def _plane(volume: Volume, axis: int, index: int, field: float) -> dict[str, Any]:
    """One plane's slice and outlines, in mm from the page's left and top, in a square of `field` mm."""
    name = PLANES[axis]
    rows, columns = (step for other, step in enumerate(volume.spacing) if other != axis)
    image, reference, prediction = (
        _page_rows(array, axis, index) for array in (volume.image, volume.reference, volume.prediction)
    )
    height, width = image.shape[0] * rows, image.shape[1] * columns
    corner = ((field - width) / 2, (field - height) / 2)
    return {
        "name": name,
        "description": f"{volume.label} case {volume.case}, {name} slice through the lesion with both outlines",
        "axis": _AXES[name],
        "letters": _LETTERS[name],
        "number": index + 1,
        "slices": volume.image.shape[axis],
        "left": corner[0],
        "top": corner[1],
        "width": width,
        "height": height,
        "picture": _png(image),
        "reference": _edges(reference, (columns, rows), corner),
        "prediction": _edges(prediction, (columns, rows), corner),
    }


def _page_rows(array: npt.NDArray[Any], axis: int, index: int) -> npt.NDArray[Any]:
    """A slice, rows from the top of the page down: y runs down to posterior, z up to superior."""
    plane: npt.NDArray[Any] = np.moveaxis(array, axis, 0)[index]
    return plane if PLANES[axis] == "axial" else plane[::-1]


def _png(plane: npt.NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    imsave(content, plane, format="png", cmap="gray", vmin=0, vmax=255, **options)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _edges(mask: BoolArray, step: tuple[float, float], corner: tuple[float, float]) -> str:
    """Voxel edges about a mask as an SVG path, in runs as long as they are straight."""
    padded = np.pad(mask, 1)
    parts = []
    for along, letter in enumerate("hv"):
        lines = padded if along == 0 else padded.T
        changes = lines[1:, 1:-1] != lines[:-1, 1:-1]
        for line, run in enumerate(np.diff(np.pad(changes, ((0, 0), (1, 1))).astype(np.int8), axis=1)):
            for first, last in zip(np.flatnonzero(run == 1), np.flatnonzero(run == -1), strict=True):
                column, row = (int(first), line) if along == 0 else (line, int(first))
                x, y = corner[0] + column * step[0], corner[1] + row * step[1]
                parts.append(f"M{x:.2f} {y:.2f}{letter}{(last - first) * step[along]:.2f}")
    return "".join(parts)
