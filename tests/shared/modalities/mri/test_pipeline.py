import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter

from shared.errors import StudyError
from shared.metrics.overlap import dice
from shared.modalities.mri.dce_study import DceStudy
from shared.modalities.mri.pipeline import Placement, prepare_region, to_native
from shared.modalities.mri.region import BreastRegion
from shared.types import Grid
from tests.mri_cases import plan_by_hand, preprocess


def region_of(volume, side, start=(3, 4, 5), grid_shape=(30, 40, 50), spacing=(2.4, 1.6, 1.5)):
    phases = np.stack([volume, volume, volume, volume]).astype(np.float16)
    return BreastRegion(phases, np.ones(volume.shape, bool), None, Grid(grid_shape, spacing), start, side)


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_voxel_of_the_prepared_array_lies_where_its_placement_says(side):
    # A ramp over x in mm, in the study's own frame: its value is its position.
    shape, spacing = (16, 20, 24), 1.5
    ramp = np.broadcast_to((5 + np.arange(24)) * spacing, shape)
    plan = plan_by_hand(spacing_mm=(2.0, 2.0, 1.2), crop_voxels=(16, 16, 24))
    prepared = prepare_region(region_of(ramp, side), plan)
    assert prepared.place.mirrored is (side == "left")
    axis = prepared.place.plan_axes[2]
    expected = axis.start + axis.step * np.arange(axis.count)
    assert expected[0] > 5 * spacing
    assert expected[-1] < 28 * spacing
    row = prepared.image[0, 8, 8].astype(np.float64)
    np.testing.assert_allclose(row[::-1] if side == "left" else row, expected, atol=0.02)  # float16 at 40
    # The array's middle is the box's: 5 + 23/2 voxels of 1.5 mm.
    assert expected.mean() == pytest.approx((5 + 11.5) * spacing)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bilateral", [True, False])
@pytest.mark.parametrize("mode", ["whole_breast", "patch"])
def test_the_mask_there_and_back_again(make_study, side, bilateral, mode):
    study, lesion = make_study(side, bilateral=bilateral)
    prepared = preprocess(study, lesion, side, plan_by_hand(mode=mode))
    assert prepared.image.dtype == np.float16
    assert prepared.image.shape == (4, *prepared.mask.shape)
    if mode == "whole_breast":
        assert prepared.mask.shape == (40, 48, 56)
    back = to_native(prepared.mask.astype(np.float32), prepared.place)
    assert back.shape == study.grid.shape
    assert dice(back >= 0.5, lesion) > 0.9
    # The lesion takes up contrast: the mask lies on it in the prepared array as well.
    assert prepared.image[1][prepared.mask].mean() > 5 * abs(prepared.image[1][~prepared.mask].mean())


def test_a_smooth_prediction_comes_home_without_a_shift(make_study):
    study, _ = make_study("left")
    place = preprocess(study, None, "left", plan_by_hand()).place
    middle = [axis.start + axis.step * (axis.count // 2 + 0.3) for axis in place.plan_axes]
    z, y, x = np.meshgrid(*(axis.start + axis.step * np.arange(axis.count) for axis in place.plan_axes), indexing="ij")
    blob = np.exp(-((z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2) / (2 * 9.0**2))
    home = to_native(blob[..., ::-1].astype(np.float32), place)
    for axis, step in enumerate(study.grid.spacing):
        centre = (home.sum(axis=tuple({0, 1, 2} - {axis})) * np.arange(home.shape[axis])).sum() / home.sum() * step
        assert centre == pytest.approx(middle[axis], abs=0.05)


def test_a_prediction_outside_the_box_is_dropped(make_study):
    study, _ = make_study("right")
    place = preprocess(study, None, "right", plan_by_hand(crop_voxels=(64, 64, 64))).place
    home = to_native(np.ones((64, 64, 64), np.float32), place)
    box = tuple(slice(first, first + size) for first, size in zip(place.box_start, place.box_size, strict=True))
    np.testing.assert_allclose(home[box], 1.0, atol=1e-6)
    home[box] = 0.0
    assert not home.any()


def test_a_left_breast_is_the_mirror_image_of_a_right_one(make_study):
    study, lesion = make_study("left")
    mirrored = DceStudy(np.ascontiguousarray(study.phases[..., ::-1]), study.times_s, study.grid)
    left = preprocess(study, lesion, "left", plan_by_hand())
    right = preprocess(mirrored, lesion[..., ::-1], "right", plan_by_hand())
    # The two boxes may round to different voxels: compare where the lesion is, in its own array.
    assert dice(left.mask, right.mask) > 0.85
    assert (left.place.mirrored, right.place.mirrored) == (True, False)


def test_the_scanners_gain_makes_no_difference(make_study):
    study, lesion = make_study("left")
    louder = DceStudy(study.phases * np.float32(7.3), study.times_s, study.grid)
    first, second = (preprocess(item, lesion, "left", plan_by_hand()) for item in (study, louder))
    np.testing.assert_allclose(first.image, second.image, atol=4e-3)


def test_channels_hold_the_lesions_uptake_and_washout(make_study):
    study, lesion = make_study("right")
    prepared = preprocess(study, lesion, "right", plan_by_hand())
    core = prepared.mask & np.roll(prepared.mask, 1, 0) & np.roll(prepared.mask, 1, 1) & np.roll(prepared.mask, 1, 2)
    pre, uptake, second, third = (float(np.median(channel[core])) for channel in prepared.image.astype(np.float32))
    # The lesion takes up 1.5 times its own level at 90 s, and 0.9 and 0.8 of that remain at 180 and 270 s: by straight
    # lines 0.967, 0.908 and 0.85 of it at the times that are read, 120, 172.5 and 225 s.
    assert uptake / pre == pytest.approx(1.45, rel=0.04)
    assert second / pre == pytest.approx(-0.0875, abs=0.02)
    assert third / pre == pytest.approx(-0.175, abs=0.02)


def test_padding_is_zero_in_every_channel(make_study):
    study, lesion = make_study("right")
    image = preprocess(study, lesion, "right", plan_by_hand(crop_voxels=(64, 64, 80))).image
    assert not image[:, :8].any()
    assert not image[:, :, :, :8].any()


def test_a_lesion_outside_the_plans_box_leaves_an_empty_mask(make_study):
    study, lesion = make_study("left", lesion_at=(0.0, 20.0, 105.0))
    prepared = preprocess(study, lesion, "left", plan_by_hand(crop_voxels=(8, 8, 8)))
    assert prepared.image.shape == (4, 8, 8, 8)
    assert not prepared.mask.any()


def test_a_breast_that_would_be_too_large_at_the_plans_spacing_is_left_out_before_memory_is_taken():
    volume = np.ones((16, 20, 24))  # of 38 x 32 x 36 mm
    plan = plan_by_hand(mode="patch", spacing_mm=(0.05, 0.05, 0.05))
    with pytest.raises(StudyError, match=r"preprocessing_failed: \(768, 640, 720\) voxels at the plan's spacing"):
        prepare_region(region_of(volume, "left"), plan)


def test_placement_survives_json(make_study):
    study, lesion = make_study("left")
    place = preprocess(study, lesion, "left", plan_by_hand()).place
    assert TypeAdapter(Placement).validate_python(json.loads(json.dumps(asdict(place)))) == place
