"""A case's figures against hand counts, and the empty-mask policy (scenario 29)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from shared.metrics.overlap import CUBE, case_metrics, dice, lesion_counts, matches, pooled_f1

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["surface"]


def mask(*boxes, shape=(20, 20, 20)):
    result = np.zeros(shape, bool)
    for (z0, z1), (y0, y1), (x0, x1) in boxes:
        result[z0:z1, y0:y1, x0:x1] = True
    return result


def measure(prediction, reference, spacing=(3.0, 1.0, 1.0), overlap=0.1):
    return case_metrics(prediction, reference, spacing, nsd_tolerance_mm=2.0, lesion_overlap=overlap)


REFERENCE = mask(((3, 13), (3, 13), (3, 13)))
SHIFTED = mask(((5, 15), (4, 14), (3, 13)))
EMPTY = np.zeros((20, 20, 20), bool)


def test_the_golden_boxes_and_hand_counts():
    found = measure(SHIFTED, REFERENCE)
    assert found["dice"] == dice(SHIFTED, REFERENCE) == pytest.approx(GOLDEN["dice"])
    assert found["hd95_mm"] == pytest.approx(GOLDEN["hd95"])
    assert found["assd_mm"] == pytest.approx(GOLDEN["assd"])
    assert found["nsd"] == pytest.approx(GOLDEN["nsd"]["2"])
    assert (found["voxels_tp"], found["voxels_fp"], found["voxels_fn"]) == (8 * 9 * 10, 280, 280)
    assert found["volume_ml"] == found["reference_volume_ml"] == pytest.approx(3.0)  # 1,000 voxels of 3 mm^3
    assert found["centroid_distance_mm"] == pytest.approx(math.sqrt(6**2 + 1))
    assert (found["lesions_tp"], found["lesions_fp"], found["lesions_fn"]) == (1, 0, 0)
    assert not found["failed"]


def test_sensitivity_and_ppv_tell_too_small_from_too_large():
    small, large = mask(((0, 2), (0, 2), (0, 2))), mask(((0, 2), (0, 2), (0, 8)))
    found = measure(small, large)
    assert (found["sensitivity"], found["ppv"]) == (0.25, 1.0)
    assert found["dice"] == pytest.approx(2 * 8 / (8 + 32))
    assert found["volume_ml"] < found["reference_volume_ml"]


def test_specificity_is_the_share_of_the_other_voxels_left_out():
    # 8,000 voxels: 1,000 of reference, and 280 predicted among the other 7,000.
    assert measure(SHIFTED, REFERENCE)["specificity"] == pytest.approx(1 - 280 / 7000)
    assert measure(EMPTY, REFERENCE)["specificity"] == 1.0
    assert measure(REFERENCE, EMPTY)["specificity"] == pytest.approx(1 - 1000 / 8000)
    everything = np.ones((4, 4, 4), bool)
    assert measure(everything, everything)["specificity"] is None  # there is no other voxel
    assert measure(everything, ~everything)["specificity"] == 0.0


def test_two_empty_masks_agree_and_no_ratio_is_made_up():
    found = measure(EMPTY, EMPTY)
    assert (found["dice"], found["nsd"], found["hd95_mm"], found["assd_mm"], found["centroid_distance_mm"]) == (
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
    )
    assert found["sensitivity"] is None
    assert found["ppv"] is None
    assert not found["failed"]


@pytest.mark.parametrize(
    ("prediction", "reference", "sensitivity", "ppv"), [(EMPTY, REFERENCE, 0.0, None), (REFERENCE, EMPTY, None, 0.0)]
)
def test_one_empty_mask_is_a_failure_without_a_made_up_distance(prediction, reference, sensitivity, ppv):
    found = measure(prediction, reference)
    assert found["failed"]
    assert (found["dice"], found["nsd"], found["sensitivity"], found["ppv"]) == (0.0, 0.0, sensitivity, ppv)
    assert found["hd95_mm"] is found["assd_mm"] is found["centroid_distance_mm"] is None
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_a_prediction_beside_the_lesion_is_measured_and_is_no_failure():
    found = measure(mask(((3, 5), (3, 5), (18, 20))), mask(((3, 5), (3, 5), (0, 2))))
    assert (found["dice"], found["failed"], found["hd95_mm"]) == (0.0, False, pytest.approx(17.5, abs=1.0))


def test_lesions_are_26_connected():
    corners = mask(((0, 2), (0, 2), (0, 2)), ((2, 4), (2, 4), (2, 4)))  # touch at one corner: one lesion
    assert lesion_counts(corners, corners, 0.5) == (1, 0, 0)


def test_a_lesion_is_found_from_the_stated_overlap_on():
    reference, prediction = mask(((0, 1), (0, 1), (0, 10))), mask(((0, 1), (0, 1), (8, 18)))
    iou = 2 / 18
    assert lesion_counts(prediction, reference, iou) == (1, 0, 0)
    assert lesion_counts(prediction, reference, iou + 1e-6) == (0, 1, 1)


def test_one_prediction_over_two_lesions_finds_one():
    two = mask(((0, 2), (0, 2), (0, 4)), ((0, 2), (0, 2), (6, 10)))
    bridge = mask(((0, 2), (0, 2), (0, 10)))
    assert lesion_counts(bridge, two, 0.1) == (1, 0, 1)
    assert lesion_counts(two, bridge, 0.1) == (1, 1, 0)


def test_matching_maximises_overlap_over_pairs():
    # The left prediction touches both lesions; a greedy match by its best pair would strand the right one.
    lesions = mask(((0, 1), (0, 1), (0, 6)), ((0, 1), (2, 3), (0, 6)))
    predictions = mask(((0, 1), (0, 1), (0, 5)), ((0, 1), (2, 3), (3, 6)))
    assert lesion_counts(predictions, lesions, 0.4) == (2, 0, 0)


def test_matches_say_which_piece_finds_a_lesion():
    lesions = mask(((0, 1), (0, 1), (0, 6)), ((0, 1), (2, 3), (0, 6)), ((9, 11), (9, 11), (9, 11)))
    predictions = mask(((0, 1), (0, 1), (0, 5)), ((0, 1), (2, 3), (3, 6)), ((15, 17), (15, 17), (15, 17)))
    pieces, number = ndimage.label(predictions, CUBE)
    matched, count = matches(pieces, number, lesions, 0.4)
    at = {name: matched[pieces[place] - 1] for name, place in
          (("left", (0, 0, 0)), ("right", (0, 2, 4)), ("alone", (16, 16, 16)))}  # fmt: skip
    assert (at, count) == ({"left": True, "right": True, "alone": False}, 3)
    none, count = matches(np.zeros_like(pieces), 0, lesions, 0.4)
    assert (len(none), count) == (0, 3)
    without, count = matches(pieces, number, EMPTY, 0.4)
    assert (without.tolist(), count) == ([False] * 3, 0)


def test_pooled_f1_by_hand_under_each_row_of_weights():
    table = np.array([[1, 0, 0], [1, 2, 0], [0, 0, 1]], float)
    weights = np.array([[1, 1, 1], [0, 2, 3.0]])
    np.testing.assert_allclose(pooled_f1(table, weights), [4 / (4 + 2 + 1), 4 / (4 + 4 + 3)])


def test_without_any_piece_on_one_side_all_are_missed_or_extra():
    two = mask(((0, 2), (0, 2), (0, 2)), ((9, 11), (9, 11), (9, 11)))
    assert lesion_counts(EMPTY, two, 0.1) == (0, 0, 2)
    assert lesion_counts(two, EMPTY, 0.1) == (0, 2, 0)


def test_the_columns_are_plain_numbers_that_json_keeps():
    found = measure(SHIFTED, REFERENCE)
    assert json.loads(json.dumps(found)) == found


def test_masks_on_different_grids_are_refused():
    with pytest.raises(ValueError, match="not on one grid"):
        measure(REFERENCE, REFERENCE[1:])
