"""From a reader's mask to the square patch of S5: the box by a slow search, the pixels by Pillow."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case
from shared.errors import StudyError
from shared.modalities.mammography.image import MammogramImage, read_mammogram
from shared.modalities.mammography.roi import cut_roi, read_roi, roi_files, roi_square
from tests.shared.modalities.mammography.conftest import Mammogram, drawing, shown, tags_of


def image_of(pixels, pixel_mm=0.07):
    return MammogramImage(
        pixels=pixels.astype(np.float32),
        breast=np.ones(pixels.shape, np.bool_),
        pixel_mm=pixel_mm,
        side="left",
        view="CC",
        intent="presentation",
        manufacturer="unknown",
        upturned=False,
        mirrored=False,
        steps=(),
    )


def box(shape, top, bottom, left, right):
    mask = np.zeros(shape, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


@settings(max_examples=60)
@given(
    points=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 59)), min_size=1, max_size=6),
    margin=st.integers(0, 30),
)
def test_the_square_is_the_smallest_around_the_box_and_its_margin(points, margin):
    mask = np.zeros((40, 60), np.bool_)
    for row, column in points:
        mask[row, column] = True
    window = roi_square(mask, margin)
    rows, columns = [row for row, _ in points], [column for _, column in points]
    height, width = max(rows) + 1 - min(rows), max(columns) + 1 - min(columns)
    assert window.side == max(height, width) + 2 * margin
    assert window.top + window.side / 2 == min(rows) + height / 2
    assert window.left + window.side / 2 == min(columns) + width / 2


@pytest.mark.parametrize(
    ("mask", "margin", "side"),
    [
        (box((900, 800), 300, 460, 250, 600), 100, 224),  # 550 pixels to 224, as S5
        (box((900, 800), 400, 420, 300, 312), 100, 224),  # 220 to 224
        (box((900, 800), 400, 440, 300, 312), 5, 128),  # 50 to 128
        (box((900, 800), 300, 700, 200, 560), 24, 56),
    ],
)
def test_a_patch_is_what_pillow_cuts_and_resizes(mask, margin, side):
    pixels = np.random.default_rng(0).random((900, 800), np.float32)
    patch = cut_roi(image_of(pixels), mask, margin=margin, side=side)
    window = patch.window
    edges = (window.left, window.top, window.left + window.side, window.top + window.side)
    expected = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=edges)
    assert patch.pixels.shape == patch.mask.shape == (side, side)
    inner = slice(2, -2), slice(2, -2)  # Pillow does not look beyond the window
    np.testing.assert_allclose(patch.pixels[inner], np.asarray(expected)[inner], atol=2e-3)
    share = Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR, box=edges)
    clear = np.abs(np.asarray(share) - 0.5) > 0.01
    np.testing.assert_array_equal(patch.mask[clear], (np.asarray(share) > 0.5)[clear])


def test_of_a_speck_that_fills_half_of_no_pixel_those_are_left_that_it_fills_most():
    patch = cut_roi(image_of(np.zeros((900, 800))), box((900, 800), 400, 401, 300, 301), margin=100, side=64)
    assert np.argwhere(patch.mask).tolist() == [[31, 31], [31, 32], [32, 31], [32, 32]]


def test_beyond_the_image_a_patch_is_zero_and_keeps_its_scale():
    pixels = np.ones((300, 300), np.float32)
    patch = cut_roi(image_of(pixels), box((300, 300), 0, 24, 0, 24), margin=100, side=224)
    assert (patch.window.top, patch.window.left, patch.window.side) == (-100, -100, 224)
    np.testing.assert_array_equal(patch.pixels[:100], 0)
    np.testing.assert_array_equal(patch.pixels[:, :100], 0)
    np.testing.assert_array_equal(patch.pixels[100:, 100:], 1)
    np.testing.assert_array_equal(patch.mask, box((224, 224), 100, 124, 100, 124))


def test_a_margin_in_millimetres_is_the_same_tissue_at_any_pixel():
    fine, coarse = (image_of(np.ones((900, 900), np.float32), step) for step in (0.05, 0.1))
    one = cut_roi(fine, box((900, 900), 400, 500, 400, 500), margin=7.0, unit="mm")
    two = cut_roi(coarse, box((900, 900), 400, 450, 400, 450), margin=7.0, unit="mm")
    assert one.window.side * 0.05 == pytest.approx(two.window.side * 0.1) == pytest.approx(5.0 + 14.0)
    with pytest.raises(StudyError, match="no_pixel_spacing"):
        cut_roi(replace(fine, pixel_mm=None), box((900, 900), 4, 5, 4, 5), margin=7.0, unit="mm")


def written(path, mask, syntax="explicit", **tags):
    item = Mammogram(mask.astype(np.uint8) * 255, sop_class=SecondaryCaptureImageStorage, bits=8, tags=tags)
    return item.write(path, syntax)


@pytest.fixture
def right(tmp_path):
    """A right breast, stored with the chest wall at the right, and read."""
    item = Mammogram(shown(drawing()[0], "R"), "R", tags={"WindowCenter": 2048, "WindowWidth": 4096})
    return read_mammogram(tags_of(item.write(tmp_path / "image.dcm")))


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-ls"])
def test_a_mask_is_turned_as_its_image_was(tmp_path, right, syntax):
    mask = box((240, 180), 100, 130, 20, 50)
    path = written(tmp_path / "CC.dcm", mask[:, ::-1], syntax)
    np.testing.assert_array_equal(read_roi(path, right), mask)


@pytest.mark.parametrize(
    ("mask", "tags", "reason"),
    [
        (box((240, 181), 100, 130, 20, 50), {}, "mask_mismatch"),
        (box((240, 180), 100, 130, 20, 50), {}, "mask_mismatch"),  # beside the breast, as it is not turned
        (box((240, 180), 0, 0, 0, 0), {}, "empty_mask"),
        (box((240, 180), 100, 130, 150, 160), {"NumberOfFrames": 2}, "unreadable_mask"),
        (box((240, 180), 100, 130, 150, 160), {"PixelData": b"\0" * 8}, "unreadable_mask"),
    ],
)
def test_a_mask_that_is_none_of_its_image_is_refused(tmp_path, right, mask, tags, reason):
    path = written(tmp_path / "CC.dcm", mask, **tags)
    with pytest.raises(StudyError) as caught:
        read_roi(path, right)
    assert caught.value.reason == reason


def test_junk_is_no_mask(tmp_path, right):
    for content in (b"", b"junk" * 100):
        (tmp_path / "CC.dcm").write_bytes(content)
        with pytest.raises(StudyError, match="unreadable_mask"):
            read_roi(tmp_path / "CC.dcm", right)


def case(site, mask):
    row = CaseRow(row=2, patient_id="P", exam="", side="left", modality="MG", path="", mask=mask)
    return Case("key", "mammography", row, site, None)


def test_masks_lie_in_a_folder_by_view_or_in_one_file_for_one_view(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "CC.dcm").touch()
    (tmp_path / "one.dcm").touch()
    assert roi_files(case(tmp_path, "masks"), ["CC", "MLO"]) == {"CC": tmp_path / "masks" / "CC.dcm"}
    assert roi_files(case(tmp_path, "one.dcm"), ["MLO"]) == {"MLO": tmp_path / "one.dcm"}
    for mask, views in (("masks", ["MLO"]), ("one.dcm", ["CC", "MLO"]), ("absent", ["CC"]), ("", ["CC"])):
        with pytest.raises(StudyError, match="no_mask"):
            roi_files(case(tmp_path, mask), views)


def test_a_path_with_view_in_it_stands_for_a_file_or_folder_of_each_view(tmp_path):
    for name in ("7_CC.dcm", "7_MLO.dcm"):
        (tmp_path / name).touch()
    both = {view: tmp_path / f"7_{view}.dcm" for view in ("CC", "MLO")}
    assert roi_files(case(tmp_path, "7_{view}.dcm"), ["CC", "MLO"]) == both
    assert roi_files(case(tmp_path, "7_{view}.dcm"), ["MLO"]) == {"MLO": both["MLO"]}
    (tmp_path / "7_MLO.dcm").unlink()
    assert roi_files(case(tmp_path, "7_{view}.dcm"), ["CC", "MLO"]) == {"CC": both["CC"]}
    with pytest.raises(StudyError, match="no_mask"):
        roi_files(case(tmp_path, "7_{view}.dcm"), ["MLO"])


@pytest.mark.parametrize("mask_name", ["a/1-1.dcm", "b/1-2.dcm"])
def test_the_largest_image_in_a_views_folder_is_its_mask(tmp_path, mask_name):
    folder = tmp_path / "scan_CC_1"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    (folder / "readme.txt").write_text("no image")
    cut_out = next(name for name in ("a/1-1.dcm", "b/1-2.dcm") if name != mask_name)
    written(folder / cut_out, np.ones((60, 80)))
    written(folder / mask_name, np.ones((240, 180)))
    assert roi_files(case(tmp_path, "scan_{view}_1"), ["CC", "MLO"]) == {"CC": folder / mask_name}
    (tmp_path / "scan_MLO_1").mkdir()
    with pytest.raises(StudyError, match="no_mask"):
        roi_files(case(tmp_path, "scan_{view}_1"), ["MLO"])
