"""Overlap and density of tissues against masks counted by hand."""

import numpy as np
import pytest

from shared.metrics.overlap import structure_metrics
from shared.tasks import task_named

SPACING = (2.0, 1.0, 5.0)  # 0.01 ml a voxel


def masks(breast, gland, shape=(6, 12, 12)):
    found = np.zeros((2, *shape), bool)
    found[(0, *breast)] = True
    found[(1, *gland)] = True
    return found


BREAST, GLAND = np.s_[0:4, 0:10, 0:10], np.s_[0:4, 0:5, 0:4]  # 400 and 80 voxels
REFERENCE = masks(BREAST, GLAND)


def measure(prediction, reference=REFERENCE, tolerance=None):
    return structure_metrics(prediction, reference, SPACING, nsd_tolerance_mm=tolerance)


def test_dice_volume_and_density_are_those_counted_by_hand():
    # The breast loses a fifth, the gland moves by one of its five rows.
    found = measure(masks(np.s_[0:4, 0:8, 0:10], np.s_[0:4, 1:6, 0:4]))
    assert found == pytest.approx(
        {
            "dice_breast": 2 * 320 / 720,
            "dice_fibroglandular": 2 * 64 / 160,
            "volume_ml_breast": 3.2,
            "volume_ml_fibroglandular": 0.8,
            "reference_volume_ml_breast": 4.0,
            "reference_volume_ml_fibroglandular": 0.8,
            "density_percent": 25.0,
            "reference_density_percent": 20.0,
        }
    )


def test_the_reference_itself_is_perfect():
    found = measure(REFERENCE)
    assert (found["dice_breast"], found["dice_fibroglandular"]) == (1.0, 1.0)
    assert found["density_percent"] == found["reference_density_percent"] == 20.0


def test_without_a_predicted_breast_there_is_no_density_and_no_error():
    found = measure(np.zeros_like(REFERENCE))
    assert (found["dice_breast"], found["density_percent"], found["reference_density_percent"]) == (0.0, None, 20.0)
    sums = task_named("breast-segmentation").sums(found)
    assert (sums.n, sums.moments("dice_breast").n, sums.moments("bias_density").n) == (1, 1, 0)


def test_a_breast_without_gland_has_density_zero():
    fatty = REFERENCE.copy()
    fatty[1] = False
    found = measure(fatty, fatty)
    assert (found["density_percent"], found["dice_fibroglandular"]) == (0.0, 1.0)


def test_surfaces_are_a_step_apart_where_the_mask_is_moved_by_one():
    moved = np.roll(REFERENCE, 1, axis=1)  # along z, 2 mm
    found = measure(moved, tolerance=2.0)
    surfaces = {"hd95_mm_breast": 2.0, "nsd_breast": 1.0, "hd95_mm_fibroglandular": 2.0, "nsd_fibroglandular": 1.0}
    assert {name: found[name] for name in surfaces} == surfaces
    assert found.keys() - surfaces.keys() == measure(moved).keys()
    assert 0.0 < measure(moved, tolerance=1.9)["nsd_breast"] < 1.0
    nothing = measure(np.zeros_like(moved), tolerance=2.0)
    assert (nothing["hd95_mm_breast"], nothing["nsd_breast"]) == (None, 0.0)


@pytest.mark.parametrize("wrong", [REFERENCE[:, :5], REFERENCE[:1]])
def test_masks_that_are_no_pairs_are_refused(wrong):
    for tolerance in (None, 2.0):
        with pytest.raises(ValueError, match="are not 2 pairs"):
            measure(wrong, REFERENCE[: len(wrong)] if len(wrong) == 1 else REFERENCE, tolerance)


def test_the_round_is_chosen_by_the_mean_dice_of_both_structures():
    task = task_named("breast-segmentation")
    one, two = measure(REFERENCE), measure(masks(np.s_[0:4, 0:8, 0:10], np.s_[0:4, 1:6, 0:4]))
    sums = task.sums(one) + task.sums(two)
    assert task.choice.of(sums) == pytest.approx((1 + 1 + 2 * 320 / 720 + 2 * 64 / 160) / 4)
    errors = [task.metric(name).of(sums) for name in ("bias_density", "mae_density")]
    assert errors == pytest.approx([2.5, 2.5])
