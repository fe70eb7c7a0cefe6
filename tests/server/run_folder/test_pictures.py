"""Stored pictures: the right cases, the right planes, nothing unpickled, the same after a round trip."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from server.reports.figures import style
from server.run_folder.pictures import View, read_pictures, select_pictures, store_picture
from shared.errors import RunError

SPACING = (4.0, 1.0, 2.0)


def test_best_median_and_worst_by_dice_with_ties_by_name():
    cases = pd.DataFrame({"case": list("edcba"), "dice": [0.9, 0.9, 0.5, 0.1, 0.1]})
    assert select_pictures(cases) == {"best": "d", "median": "c", "worst": "b"}
    assert select_pictures(cases.iloc[::-1]) == select_pictures(cases)
    assert set(select_pictures(cases.head(1)).values()) == {"e"}


def volume(*boxes, shape=(20, 60, 40)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def store_and_read(folder, reference, prediction):
    image = np.random.default_rng(0).normal(size=(2, *reference.shape)).astype(np.float32)
    store_picture(
        folder, "best", "centre-d-0-0-L", image=image, reference=reference, prediction=prediction, spacing=SPACING
    )
    (picture,) = read_pictures(folder)
    return image[1], picture


def test_planes_pass_through_the_largest_section_of_the_largest_lesion(tmp_path):
    large = (slice(5, 6), slice(20, 23), slice(10, 13)), (slice(6, 7), slice(19, 24), slice(9, 14))
    reference = volume(*large, (slice(15, 16), slice(50, 52), slice(30, 32)))
    prediction = np.roll(reference, 1, axis=1)
    subtraction, picture = store_and_read(tmp_path, reference, prediction)
    assert (picture.label, picture.case) == ("best", "centre-d-0-0-L")
    # 45 mm to each side of voxel (6, 21, 11): 11 slices, 45 rows, 22 columns, cut at the volume's edges.
    box = np.s_[0:18, 0:60, 0:34]
    for name, index, spacing in (
        ("axial", np.s_[6, :, :], (1.0, 2.0)),
        ("coronal", np.s_[:, 21, :], (4.0, 2.0)),
        ("sagittal", np.s_[:, :, 11], (4.0, 1.0)),
    ):
        view = picture.views[name]
        np.testing.assert_array_equal(view.image, subtraction[box][index])
        np.testing.assert_array_equal(view.reference, reference[box][index])
        np.testing.assert_array_equal(view.prediction, prediction[box][index])
        assert view.spacing == spacing
    np.testing.assert_array_equal(picture.views["projection"].image, subtraction[box].max(axis=0))
    np.testing.assert_array_equal(picture.views["projection"].prediction, prediction[box].any(axis=0))


def test_without_a_reference_the_planes_pass_through_the_prediction_and_without_both_through_the_middle(tmp_path):
    empty, lesion = volume(), volume((slice(3, 4), slice(8, 11), slice(4, 7)))
    _, picture = store_and_read(tmp_path, empty, lesion)
    assert picture.views["axial"].prediction.sum() == 9
    subtraction, picture = store_and_read(tmp_path, empty, empty)
    np.testing.assert_array_equal(picture.views["axial"].image, subtraction[10, :, 0:40][:, :])


def test_a_damaged_or_pickled_file_is_refused(tmp_path):
    lesion = volume((slice(3, 4), slice(8, 11), slice(4, 7)))
    store_and_read(tmp_path, lesion, lesion)
    file = tmp_path / "pictures" / "best.npz"
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"PK not a zip", pickled()):
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"best\.npz cannot be read"):
            read_pictures(tmp_path)
    file.unlink()
    assert read_pictures(tmp_path) == []


def pickled():
    content = io.BytesIO()
    np.savez(content, spacing=np.array([{"a": 1}], dtype=object), case=np.array("x"))
    return content.getvalue()


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
