"""Volumes as a fragment of the page: three linked planes a case, with everything they need inside the page.

Without the script every plane shows its slice through the lesion; `viewer.js` puts canvases in its place. The page's
author puts `viewer_style()` and `viewer_script()` on the page once.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.image import imsave

from server.reports.figures.style import FIELD_MM
from server.run_folder.pictures import PLANES, largest_section
from server.run_folder.volumes import Volume
from shared.runtime.project import project_root
from shared.types import BoolArray

MAX_BYTES = 400_000
"""Of a case in the page."""
_STILL_BYTES = 60_000  # of these for the slices without the script, and the controls
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom of the page
_AXES = {"axial": "z", "coronal": "y", "sagittal": "x"}
_BAR_MM, _MARGIN_MM = 20.0, 4.0

_NOTES = Markup(
    "<noscript><p>Without JavaScript each plane shows one slice, through the lesion: the other slices, the window and "
    "the choice of outlines are missing.</p></noscript>"
    '<p class="volume-hint note">Click or drag moves the cross in all planes; the wheel, after a click, and the arrow '
    "keys turn slices. Positions are mm from the first cross: z to superior, y to posterior, x to left.</p>"
)
_CASE = Markup(
    '<figure class="volume" data-volume="{data}" data-voxels="{voxels}">'
    "<figcaption><strong>{label}</strong> <code>{case}</code></figcaption>"
    '<p class="message" role="status"></p><div class="planes">{planes}</div>'
    '<div class="controls live">'
    '<label><input type="checkbox" class="reference" autocomplete="off" checked><span class="line"></span>reference'
    "</label>"
    '<label><input type="checkbox" class="prediction" autocomplete="off" checked>'
    '<span class="line prediction"></span>prediction</label>'
    '<label class="wide">window <output></output><input type="range" class="window" min="10" max="255" value="255" '
    'autocomplete="off" aria-label="window, upper end"></label></div></figure>'
)
_PLANE = Markup(
    '<div class="plane" data-plane="{name}"><div class="view">'
    '<canvas class="live" tabindex="0" role="img" aria-label="{description}"></canvas>'
    '<svg viewBox="0 0 {field} {field}"><g class="still" role="img" aria-label="{description}">'
    '<image x="{left}" y="{top}" width="{width}" height="{height}" preserveAspectRatio="none" href="{picture}"/>'
    '<path class="reference" d="{reference}"/><path class="prediction" d="{prediction}"/></g>'
    '<g class="marks" aria-hidden="true">{marks}</g></svg></div>'
    '<label class="slice"><span class="at">{name} slice, {number} of {slices}, {axis}&nbsp;=&nbsp;0.0&nbsp;mm</span>'
    '<input class="live" type="range" min="1" max="{slices}" value="{number}" autocomplete="off" '
    'aria-label="{name} slice"></label></div>'
)


def volume_figures(volumes: Sequence[Volume]) -> Markup:
    """A figure a volume, less than `MAX_BYTES` each; the same every time. `viewer_notes` stand above the first.

    Where a noisy image does not fit, its finest grey levels are dropped: 128, 64, ... of 256 are left.
    """
    return Markup("").join(map(_figure, volumes))


def viewer_notes() -> Markup:
    """How the viewer is used, and a line for readers without JavaScript."""
    return _NOTES


def viewer_script() -> Markup:
    """The script for one `<script>` element of the page; its SHA-256 is what a security policy names."""
    return Markup(_beside("volume_viewer.js"))  # noqa: S704 - our own file


def viewer_style() -> Markup:
    """The rules for the page's `<style>`."""
    return Markup(_beside("volume_viewer.css"))  # noqa: S704 - our own file


def _beside(name: str) -> str:
    """A file beside this one, or in the checkout: Flower ships an app without its scripts and styles."""
    folders = (Path(__file__).parent, project_root() / "server" / "reports" / "figures")
    return next(path for folder in folders if (path := folder / name).is_file()).read_text(encoding="utf-8")


def _figure(volume: Volume) -> Markup:
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
    return _CASE.format(
        data=json.dumps(data),
        voxels=_packed(volume),
        label=volume.label.capitalize(),
        case=volume.case,
        planes=Markup("").join(_plane(volume, axis, start[axis], field) for axis in range(len(PLANES))),
    )


def _packed(volume: Volume) -> str:
    """Voxels and both masks' bits, deflated, as base64: in as many grey levels as fit."""
    masks = np.packbits(volume.reference).tobytes() + np.packbits(volume.prediction).tobytes()
    most = (MAX_BYTES - _STILL_BYTES) * 3 // 4
    for dropped in range(8):
        packed = zlib.compress((volume.image >> dropped << dropped).tobytes() + masks, 9)
        if len(packed) <= most:
            break
    return base64.b64encode(packed).decode()


def _plane(volume: Volume, axis: int, index: int, field: float) -> Markup:
    name = PLANES[axis]
    rows, columns = (step for other, step in enumerate(volume.spacing) if other != axis)
    image, reference, prediction = (
        _page_rows(array, axis, index) for array in (volume.image, volume.reference, volume.prediction)
    )
    height, width = image.shape[0] * rows, image.shape[1] * columns
    corner = ((field - width) / 2, (field - height) / 2)
    return _PLANE.format(
        name=name,
        description=f"{volume.label} case {volume.case}, {name} slice through the lesion with both outlines",
        axis=_AXES[name],
        number=index + 1,
        slices=volume.image.shape[axis],
        field=f"{field:g}",
        left=f"{corner[0]:.3f}",
        top=f"{corner[1]:.3f}",
        width=f"{width:.3f}",
        height=f"{height:.3f}",
        picture=_png(image),
        reference=_edges(reference, (columns, rows), corner),
        prediction=_edges(prediction, (columns, rows), corner),
        marks=_marks(_LETTERS[name], field),
    )


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


def _marks(letters: str, field: float) -> Markup:
    """Anatomical letters at the edges and the scale bar, as `figures.view_panel` has them."""
    middle, far = field / 2, field - _MARGIN_MM
    spots = ((_MARGIN_MM, middle), (far, middle), (middle, _MARGIN_MM), (middle, far))
    letter = Markup('<text class="letter" x="{:.2f}" y="{:.2f}">{}</text>')
    bar = Markup(
        '<rect x="{:.2f}" y="{:.2f}" width="{:g}" height=".8"/><text x="{:.2f}" y="{:.2f}">{:g} mm</text>'
    ).format(far - _BAR_MM, far, _BAR_MM, far - _BAR_MM / 2, far - 1.2, _BAR_MM)
    return Markup("").join([*(letter.format(*spot, name) for name, spot in zip(letters, spots, strict=True)), bar])
