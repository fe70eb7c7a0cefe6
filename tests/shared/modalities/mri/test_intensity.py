import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.intensity import choose_phases, reference_level, scale_channels, to_channels


@pytest.mark.parametrize(
    ("post_times", "wanted", "chosen"),
    [
        ((90, 180, 270), 3, (0, 1, 2, 3)),
        ((60, 120, 180, 240, 300), 3, (0, 1, 3, 5)),  # first, middle, last
        ((60, 70, 80, 300), 3, (0, 1, 3, 4)),  # 180 s is wanted: 80 s is nearest
        ((60, 290, 295, 300), 3, (0, 1, 2, 4)),
        ((60, 61, 62, 63, 300), 4, (0, 1, 3, 4, 5)),  # no phase twice, none left out at the end
        ((90, 180), 3, (0, 1, 2, 2)),  # the last one again: no change seen
        ((90,), 2, (0, 1, 1)),
        ((60, 120, 180), 1, (0, 1)),
    ],
)
def test_phases_are_chosen_by_time(post_times, wanted, chosen):
    assert choose_phases((-10.0, *post_times), wanted) == chosen


def test_reference_level_is_the_ninetieth_percentile_inside_the_breast():
    pre = np.arange(110, dtype=np.float32).reshape(1, 10, 11)
    breast = pre <= 100  # 0 ... 100
    assert reference_level(pre, breast) == pytest.approx(90.0)


@pytest.mark.parametrize("breast", [np.ones((1, 2, 2), bool), np.zeros((1, 2, 2), bool)])
def test_a_dark_or_empty_breast_is_refused(breast):
    with pytest.raises(StudyError, match="preprocessing_failed"):
        reference_level(np.zeros((1, 2, 2), np.float32), breast)


def test_channels_are_pre_uptake_and_change_from_the_first_uptake():
    phases = np.array([10.0, 25.0, 22.0, 31.0], np.float32).reshape(4, 1, 1, 1)
    before = phases.copy()
    assert to_channels(phases).ravel().tolist() == [10.0, 15.0, -3.0, 6.0]
    np.testing.assert_array_equal(phases, before)


def test_scaling_clips_first_and_leaves_zero_alone():
    channels = np.array([[0.0, 5.0], [-9.0, 0.0]], np.float32).reshape(2, 1, 1, 2)
    scaled = scale_channels(channels, low=(0.0, -1.0), high=(2.0, 3.0), scale=(0.5, 0.25))
    assert scaled.ravel().tolist() == [0.0, 4.0, -4.0, 0.0]
