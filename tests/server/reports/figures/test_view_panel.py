"""A view of a case as it is drawn: outlines where the voxels are, in true proportions, the right way up."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from server.reports.figures import style
from server.run_folder.pictures import View


def view(mask, spacing=(1.0, 1.0), image=None):
    shape = mask.shape
    image = np.zeros(shape, np.float32) if image is None else image
    return View(image, mask, np.zeros(shape, bool), spacing)


def points(svg, colour):
    """Corners of all strokes of one colour in the drawing, SVG units (y runs down)."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="[^"]*stroke: {colour}', svg)
    return np.array(
        [[float(x), float(y)] for path in paths for x, y in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path)]
    )


@pytest.mark.parametrize(("kind", "down"), [("axial", True), ("coronal", False), ("sagittal", False)])
def test_outlines_lie_where_the_voxels_are_in_true_proportions(kind, down):
    mask = np.zeros((20, 40), bool)
    mask[2:6, 30:38] = True  # first rows, last columns
    found = points(style.view_panel(view(mask, (4.0, 2.0)), kind, "p", "text"), style.REFERENCE)
    size = 2.6 * 72
    mm = (found - size / 2) * 90 / size
    width, height = np.ptp(mm, axis=0)
    # Half a voxel beyond the outer centres on both sides: 8 x 2 mm and 4 x 4 mm.
    assert (width, height) == pytest.approx((16, 16), abs=0.1)
    across, along = mm.min(axis=0) + np.array([width, height]) / 2
    assert across == pytest.approx((34 - 20) * 2, abs=0.1)
    # Row 0 is anterior (up) in an axial plane and inferior (down) in a plane with the z axis.
    assert along == pytest.approx((4 - 10) * 4 * (1 if down else -1), abs=0.1)


def test_the_image_is_the_same_way_up_as_its_outline():
    mask = np.zeros((20, 20), bool)
    mask[2:6, 12:16] = True
    for kind, flipped in (("axial", False), ("coronal", True)):
        svg = style.view_panel(view(mask, image=mask.astype(np.float32)), kind, "p", "text")
        data = re.search(r"data:image/png;base64,([^\"]+)", svg).group(1)
        placed = re.search(r"<image[^>]*>", svg).group(0)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")) > 128
        # A vertical flip is either in the pixels or in the element's transform.
        mirrored = "scale(1 -1)" in placed or "matrix(1 0 0 -1" in placed
        top = pixels[::-1] if mirrored else pixels
        rows = np.flatnonzero(top.any(axis=1))
        assert (rows.mean() < 10) is not flipped


def test_an_empty_prediction_and_a_flat_image_draw_without_warnings():
    empty = np.zeros((10, 10), bool)
    svg = style.view_panel(view(empty), "axial", "p", 'a "quoted" <description>')
    assert 'aria-label="a &quot;quoted&quot; &lt;description&gt;"' in svg
    assert len(points(svg, style.REFERENCE)) == 0
