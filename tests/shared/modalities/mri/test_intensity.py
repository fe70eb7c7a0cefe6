import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.intensity import reference_level, scale_channels, to_channels


def enhancing(*voxels, fill=(50.0, 0.0), count=100):
    """Pre-contrast signal and uptake of a row of voxels; the rest is `fill`."""
    values = np.array([*voxels, *[fill] * (count - len(voxels))], np.float32)
    return values[:, 0].reshape(1, 1, -1), values[:, 1].reshape(1, 1, -1)


def test_the_level_is_the_median_signal_of_what_enhances_by_the_cube_of_its_uptake():
    # Cubes 1, 8, 27 of 36: the third holds the middle; of 8, 8, 27 the third as well; of 1, 8, 8 the second.
    for voxels, level in (
        ([(10, 1), (20, 2), (30, 3)], 30.0),
        ([(30, 3), (10, 2), (20, 2)], 30.0),
        ([(10, 1), (20, 2), (30, 2)], 20.0),
    ):
        pre, uptake = enhancing(*voxels)
        assert reference_level(pre, uptake, np.ones(pre.shape, bool)) == level


def test_bright_tissue_without_uptake_and_what_lies_outside_have_no_weight():
    pre, uptake = enhancing((100, 40), (110, 40), (120, 40), fill=(900.0, -5.0))
    breast = np.ones(pre.shape, bool)
    assert reference_level(pre, uptake, breast) == 110.0
    pre[..., -1], uptake[..., -1], breast[..., -1] = 5000.0, 5000.0, False
    assert reference_level(pre, uptake, breast) == 110.0


def test_one_spike_is_not_the_level():
    voxels = [(100.0 + number, 40.0) for number in range(41)]
    pre, uptake = enhancing((7.0, 1e6), *voxels, count=2000)
    assert reference_level(pre, uptake, np.ones(pre.shape, bool)) == pytest.approx(120.0, abs=1.0)


def test_a_gain_is_a_factor_of_the_level():
    pre, uptake = enhancing((100, 40), (110, 45), (120, 50))
    breast = np.ones(pre.shape, bool)
    assert reference_level(8 * pre, 8 * uptake, breast) == 8 * reference_level(pre, uptake, breast)


def test_a_breast_without_uptake_or_signal_is_refused():
    pre, uptake = enhancing((100, 40))
    with pytest.raises(StudyError, match="phases in order") as caught:
        reference_level(pre, -uptake, np.ones(pre.shape, bool))
    assert caught.value.reason == "preprocessing_failed"
    with pytest.raises(StudyError, match="phases in order"):
        reference_level(pre, uptake, np.zeros(pre.shape, bool))
    with pytest.raises(StudyError, match="no signal before contrast"):
        reference_level(0 * pre, uptake, np.ones(pre.shape, bool))


def test_channels_are_pre_uptake_and_change_from_the_first_uptake():
    phases = np.array([10.0, 25.0, 22.0, 31.0], np.float32).reshape(4, 1, 1, 1)
    before = phases.copy()
    assert to_channels(phases).ravel().tolist() == [10.0, 15.0, -3.0, 6.0]
    np.testing.assert_array_equal(phases, before)


def test_scaling_clips_first_and_leaves_zero_alone():
    channels = np.array([[0.0, 5.0], [-9.0, 0.0]], np.float32).reshape(2, 1, 1, 2)
    scaled = scale_channels(channels, low=(0.0, -1.0), high=(2.0, 3.0), scale=(0.5, 0.25))
    assert scaled.ravel().tolist() == [0.0, 4.0, -4.0, 0.0]
