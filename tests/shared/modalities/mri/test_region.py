"""A breast cut out of a study, on the exam's own scale."""

from dataclasses import replace

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.fingerprint import fingerprint_region
from shared.modalities.mri.intensity import reference_level
from shared.modalities.mri.kinetics import at_times, fixed_times, time_weights
from shared.modalities.mri.region import BreastRegion, extract_region
from shared.types import Grid
from tests.mri_cases import WITHOUT_N4


def test_window_and_size_by_hand():
    breast = np.ones((4, 5, 6), bool)
    region = BreastRegion(
        np.zeros((2, 4, 5, 6), np.float16), breast, None, Grid((20, 20, 20), (3.0, 2.0, 1.0)), (1, 2, 3), "left"
    )
    assert region.window == (slice(1, 5), slice(2, 7), slice(3, 9))
    assert region.size_mm == (12.0, 10.0, 6.0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_phases_are_the_signal_at_fixed_times_over_one_level(make_study, side):
    study, lesion = make_study(side)
    region = extract_region(study, lesion, side, WITHOUT_N4)
    weights = time_weights(study.times_s[1:], fixed_times(3))
    cut = at_times(study.phases[(slice(None), *region.window)], weights)
    level = reference_level(cut[0], cut[1] - cut[0], region.breast)
    np.testing.assert_allclose(region.phases.astype(np.float32), cut / level, rtol=1e-3, atol=1e-3)
    assert region.phases.dtype == np.float16
    assert region.grid == study.grid
    assert lesion[region.window].sum() == lesion.sum() == region.lesion.sum()


def test_a_voxel_beyond_half_precision_is_bounded(make_study):
    study, _ = make_study("left")
    region = extract_region(study, None, "left", WITHOUT_N4)
    bright = study.phases.copy()
    z, y, x = (part.start for part in region.window)
    bright[3, z, y, x] = 1e9
    extreme = extract_region(replace(study, phases=bright), None, "left", WITHOUT_N4)
    assert np.isfinite(extreme.phases).all()
    assert extreme.phases.max() == np.float16(60_000.0)


def test_one_field_corrects_every_phase(make_study):
    study, lesion = make_study("left")
    corrected = WITHOUT_N4.model_copy(update={"n4": True})
    plain = extract_region(study, lesion, "left", WITHOUT_N4)
    flat = extract_region(study, lesion, "left", corrected)
    inside = plain.breast
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flat.phases.astype(np.float32)[:, inside] / plain.phases.astype(np.float32)[:, inside]
    assert ratio[0].std() > 0.005  # something was corrected
    np.testing.assert_allclose(ratio[1:], np.broadcast_to(ratio[0], ratio[1:].shape), rtol=0.01)


def test_an_exam_of_more_phases_and_one_of_fewer_have_the_same_channels(make_study):
    regions = [extract_region(make_study("left", post_phases=count)[0], None, "left", WITHOUT_N4) for count in (2, 5)]
    assert regions[0].phases.shape == regions[1].phases.shape
    lesion = make_study("left")[1][regions[0].window]
    short, long = (region.phases.astype(np.float32)[:, lesion].mean(axis=1) for region in regions)
    np.testing.assert_allclose(short, long, rtol=0.05)


def test_an_exam_that_ends_too_early_is_left_out(make_study):
    study, _ = make_study("left", post_phases=1)
    with pytest.raises(StudyError, match="do not tell the signal at 225 s") as caught:
        extract_region(study, None, "left", WITHOUT_N4)
    assert caught.value.reason == "missing_phase"
    alone = extract_region(study, None, "left", WITHOUT_N4.model_copy(update={"post_phases": 1}))
    assert len(alone.phases) == 2


def test_a_lesion_in_the_other_breast_is_refused(make_study):
    study, lesion = make_study("left")
    with pytest.raises(StudyError, match="side of the row") as caught:
        extract_region(study, lesion, "right", WITHOUT_N4)
    assert caught.value.reason == "no_breast_found"


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_a_mask_of_both_breasts_the_rows_counts(make_study, side):
    study, lesion = make_study(side)
    both = lesion | lesion[..., ::-1]
    region = extract_region(study, both, side, WITHOUT_N4)
    np.testing.assert_array_equal(region.lesion, lesion)
    assert both.sum() == 2 * lesion.sum()  # the caller's mask is as it was
    volume = fingerprint_region(region).volume
    np.testing.assert_array_equal(volume, fingerprint_region(extract_region(study, lesion, side, WITHOUT_N4)).volume)


def test_a_reference_beyond_the_box_on_its_own_side_stays(make_study):
    """It is what a crop has missed, not the other breast's."""
    study, lesion = make_study("left")
    box = extract_region(study, None, "left", WITHOUT_N4)
    far = lesion.copy()
    far[:, -3:, box.window[2].stop - 4 : box.window[2].stop - 1] = True
    assert far[box.window].sum() < far.sum()
    np.testing.assert_array_equal(extract_region(study, far, "left", WITHOUT_N4).lesion, far)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("depth", [-58.0, 20.0])
def test_a_box_that_misses_the_lesion_on_its_side_is_returned_and_says_so(make_study, side, depth):
    study, lesion = make_study(side, lesion_at=(0.0, depth, 60.0))  # deep in the chest, or in the breast
    region = extract_region(study, lesion, side, WITHOUT_N4)
    assert region.misses_lesion is (depth < 0)
    assert region.lesion.sum() == lesion.sum()
    if region.misses_lesion:
        with pytest.raises(StudyError, match="no voxel of the lesion lies in the"):
            region.need_lesion()
    else:
        region.need_lesion()
    assert not extract_region(study, None, side, WITHOUT_N4).misses_lesion


def test_masks_of_another_shape_and_images_that_are_not_numbers_are_refused(make_study):
    study, lesion = make_study("left")
    with pytest.raises(StudyError, match="mask_mismatch"):
        extract_region(study, lesion[1:], "left", WITHOUT_N4)
    broken = study.phases.copy()
    broken[1, 3, 3, 3] = np.nan
    with pytest.raises(StudyError, match="not numbers"):
        extract_region(replace(study, phases=broken), lesion, "left", WITHOUT_N4)
