import numpy as np
import pytest
from scipy import ndimage

from shared.preprocessing.resample import Axis, axis_weights, resample, resample_mask

NATIVE = (Axis(0.0, 2.4, 20), Axis(0.0, 1.6, 30), Axis(0.0, 1.5, 33))
PLAN = (Axis(3.1, 2.0, 18), Axis(2.2, 1.9, 20), Axis(1.7, 1.1, 36))


def positions(axis):
    return axis.start + axis.step * np.arange(axis.count)


def ramp(axes):
    z, y, x = np.meshgrid(*(positions(axis) for axis in axes), indexing="ij")
    return (0.7 * z - 1.3 * y + 2.1 * x + 5.0).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), [(NATIVE, PLAN), (PLAN, (Axis(7.2, 2.4, 9), NATIVE[1], NATIVE[2]))])
def test_linear_function_of_position_is_reproduced_to_a_fraction_of_a_voxel(source, target):
    result = resample(ramp(source)[None], source, target)[0]
    inside = np.ones(result.shape, bool)
    for number, (old, new) in enumerate(zip(source, target, strict=True)):
        place = positions(new)
        within = (place >= old.start) & (place <= positions(old)[-1])
        inside &= within.reshape([-1 if axis == number else 1 for axis in range(3)])
    assert inside.sum() > 1000
    # A shift by 0.01 mm along x would change the ramp by 0.02.
    np.testing.assert_allclose(result[inside], ramp(target)[inside], atol=1e-3)


def test_same_grid_is_the_identity_bit_by_bit():
    volume = np.random.default_rng(0).normal(size=(2, 20, 30, 33)).astype(np.float32)
    np.testing.assert_array_equal(resample(volume, NATIVE, NATIVE), volume)


def test_agrees_with_scipy_at_every_point():
    volume = np.random.default_rng(1).normal(size=(20, 30, 33)).astype(np.float32)
    index = np.meshgrid(
        *((positions(new) - old.start) / old.step for old, new in zip(NATIVE, PLAN, strict=True)), indexing="ij"
    )
    expected = ndimage.map_coordinates(volume, index, order=1, mode="nearest")
    np.testing.assert_allclose(resample(volume[None], NATIVE, PLAN)[0], expected, atol=2e-5)


def test_zero_outside_and_the_outer_voxel_within_half_a_voxel_of_it():
    volume = np.full((1, 1, 1, 3), 7.0, np.float32)
    one = Axis(0.0, 1.0, 1)
    result = resample(volume, (one, one, Axis(0.0, 2.0, 3)), (one, one, Axis(-2.0, 0.9, 9)))[0, 0, 0]
    # Points at -2.0, -1.1, -0.2, 0.7, ..., 4.3, 5.2; the voxels reach from -1 to 5.
    np.testing.assert_array_equal(result, [0, 0, 7, 7, 7, 7, 7, 7, 0])


def test_a_coarser_target_averages_instead_of_aliasing():
    stripes = np.where(np.arange(40) % 2 == 0, 1.0, -1.0).astype(np.float32)
    fine, coarse = Axis(0.0, 1.0, 40), Axis(4.0, 2.0, 15)
    weights = axis_weights(fine, coarse)
    # Every target falls on a +1: picking would give a field of ones; the triangle 1/4, 1/2, 1/4 gives zero.
    np.testing.assert_allclose(weights @ stripes, 0.0, atol=1e-6)
    np.testing.assert_allclose(weights @ np.ones(40, np.float32), 1.0, atol=1e-6)
    # Up to 1.5 times coarser stays plain linear: at most two voxels speak for one.
    assert np.diff(axis_weights(fine, Axis(0.3, 1.4, 20)).indptr).max() == 2


def test_mask_keeps_volume_and_centre_on_another_grid():
    z, y, x = np.meshgrid(*(positions(axis) for axis in NATIVE), indexing="ij")
    ball = (z - 22.0) ** 2 + (y - 21.0) ** 2 + (x - 22.0) ** 2 < 12.0**2
    moved = resample_mask(ball, NATIVE, PLAN)
    volumes = [mask.sum() * np.prod([axis.step for axis in axes]) for mask, axes in ((ball, NATIVE), (moved, PLAN))]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.03)
    for dimension, (old, new) in enumerate(zip(NATIVE, PLAN, strict=True)):
        before = positions(old)[np.nonzero(ball)[dimension]].mean()
        assert positions(new)[np.nonzero(moved)[dimension]].mean() == pytest.approx(before, abs=0.1)


def test_a_lesion_smaller_than_a_voxel_keeps_its_fullest_voxel():
    mask = np.zeros((8, 8, 8), bool)
    mask[3, 4, 5] = True
    axes, coarse = (Axis(0.0, 1.0, 8),) * 3, (Axis(1.0, 3.0, 3),) * 3
    result = resample_mask(mask, axes, coarse)
    # Coarse voxels lie at 1, 4 and 7: voxel (3, 4, 5) is nearest to (4, 4, 4), the index (1, 1, 1).
    assert [tuple(place) for place in np.argwhere(result)] == [(1, 1, 1)]
    assert not resample_mask(np.zeros_like(mask), axes, coarse).any()
