"""Stored pictures: the right cases, the right planes, nothing unpickled, the same after a round trip."""

import io

import numpy as np
import pandas as pd
import pytest

from server.run_folder.pictures import picture_path, read_pictures, select_pictures, store_planes
from shared.errors import RunError

TASK = "lesion-segmentation"
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
    image = np.random.default_rng(0).normal(size=reference.shape).astype(np.float32)
    volumes = {"image": image, "reference": reference, "prediction": prediction}
    path = picture_path(folder, TASK, "best")
    store_planes(path, "centre-d-0-0-L", volumes, spacing=SPACING, field_mm=90.0)
    (picture,) = read_pictures(folder, TASK)
    return image, picture


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
    file = tmp_path / "pictures" / TASK / "best.npz"
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"PK not a zip", pickled()):
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"best\.npz cannot be read"):
            read_pictures(tmp_path, TASK)
    file.unlink()
    assert read_pictures(tmp_path, TASK) == []


def pickled():
    content = io.BytesIO()
    np.savez(content, spacing=np.array([{"a": 1}], dtype=object), case=np.array("x"))
    return content.getvalue()


def test_the_field_is_as_wide_as_asked_for_and_nested_masks_keep_their_depth(tmp_path):
    nested = np.zeros((20, 60, 40), np.uint8)
    nested[6:9, 15:30, 5:20] = 1  # all sections alike: the first is shown
    nested[5:8, 18:25, 8:15] = 2
    path = picture_path(tmp_path, TASK, "worst")
    store_planes(path, "c", {"image": nested * 1.5, "reference": nested, "prediction": nested}, spacing=SPACING,
                 field_mm=16.0)  # fmt: skip
    (picture,) = read_pictures(tmp_path, TASK)
    axial = picture.views["axial"]
    # 8 mm to each side of the middle, (6, 22, 12): rows 14 to 30 of 1 mm, columns 8 to 16 of 2 mm.
    np.testing.assert_array_equal(axial.reference, nested[6, 14:31, 8:17])
    assert 2 in axial.reference
    np.testing.assert_array_equal(axial.image, nested[6, 14:31, 8:17] * 1.5)


def test_pictures_are_kept_by_task_and_of_a_study_by_centre(tmp_path):
    assert picture_path(tmp_path, TASK, "best") == tmp_path / "pictures" / TASK / "best.npz"
    assert picture_path(tmp_path, TASK, "best", "centre-a") == tmp_path / "pictures" / TASK / "centre-a" / "best.npz"
    lesion = volume((slice(3, 4), slice(8, 11), slice(4, 7)))
    volumes = dict.fromkeys(("image", "reference", "prediction"), lesion)
    for label in ("worst", "best"):
        store_planes(picture_path(tmp_path, TASK, label, "b"), label, volumes, spacing=SPACING, field_mm=90.0)
    assert [item.case for item in read_pictures(tmp_path, TASK, "b")] == ["best", "worst"]
    assert read_pictures(tmp_path, TASK) == read_pictures(tmp_path, "breast-segmentation", "b") == []


def test_the_cases_are_ordered_by_the_column_that_the_task_names():
    cases = pd.DataFrame({"case": list("abc"), "dice": [0.9, 0.5, 0.1], "dice_fibroglandular": [0.1, 0.9, 0.5]})
    assert select_pictures(cases, "dice_fibroglandular") == {"best": "b", "median": "c", "worst": "a"}
