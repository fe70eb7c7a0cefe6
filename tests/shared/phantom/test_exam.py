"""One exam: its anatomy, its masks, its seed."""

import numpy as np
import pytest
from scipy.ndimage import label

from shared.errors import ConfigError
from shared.phantom.biology import draw_latents
from shared.phantom.breasts import draw_breasts
from shared.phantom.exam import PhantomSettings, make_exam
from shared.phantom.parenchyma import GLAND_SHARE
from shared.phantom.vessels import draw_vessels, feeding_vessel, grow_tree
from shared.types import Grid

SETTINGS = PhantomSettings()


@pytest.fixture(scope="module")
def exams():
    return [make_exam(centre, index, SETTINGS) for centre in "ABCD" for index in range(3)]


def test_phases_share_one_grid_and_times_rise(exams):
    for exam in exams:
        assert exam.phases.dtype == np.float32
        assert exam.phases.shape == (4, *exam.grid.shape)
        assert exam.times_s[0] < 0 < exam.times_s[1] < exam.times_s[2] < exam.times_s[3]


def test_lesion_is_there_and_within_its_breast(exams):
    for exam in exams:
        assert exam.lesion.sum() >= 40
        assert not (exam.lesion & ~exam.breast).any()
        assert not (exam.fibroglandular & ~exam.breast).any()


def test_lesion_is_in_the_breast_the_table_names(exams):
    for exam in exams:
        x = exam.grid.origin[0] + exam.grid.spacing[2] * np.nonzero(exam.lesion)[2].mean()
        assert (x > 0) == (exam.side == "left")  # LPS: the patient's left is positive


def test_lesion_enhances_more_than_the_gland_around_it(exams):
    for exam in exams:
        gland = exam.fibroglandular & ~exam.lesion
        rise = exam.phases[1] - exam.phases[0]
        assert rise[exam.lesion].mean() > 2.0 * rise[gland].mean() > 0


def test_gland_fills_its_densitys_share(exams):
    for exam in exams:
        share = exam.fibroglandular.sum() / exam.breast.sum()
        assert share == pytest.approx(GLAND_SHARE[exam.labels.density], abs=0.035)


def test_breast_has_a_breasts_volume(exams):
    for exam in exams:
        assert 150 < exam.breast.sum() * exam.grid.voxel_volume_ml < 900


def test_sagittal_centre_sees_one_breast_and_the_others_two(exams):
    for exam in exams:
        width = exam.grid.shape[2] * exam.grid.spacing[2]
        assert width == pytest.approx(128.0 if exam.centre == "B" else 256.0, abs=3.0)


def test_same_seed_same_exam_whatever_the_order():
    first = make_exam("B", 1, SETTINGS)
    make_exam("A", 0, SETTINGS)
    again = make_exam("centre-b", 1, PhantomSettings(cases_per_site=3))
    assert first.phases.tobytes() == again.phases.tobytes()
    assert first.labels == again.labels
    other = make_exam("B", 1, PhantomSettings(seed=1))
    assert other.phases.tobytes() != first.phases.tobytes()


def test_patients_and_centres_differ(exams):
    assert len({exam.phases[0].tobytes() for exam in exams}) == len(exams)


def test_unknown_centre_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="centre-d"):
        make_exam("centre-x", 0, SETTINGS)


def test_separation_zero_draws_all_subtypes_alike():
    def draw(subtype):
        return draw_latents(np.random.default_rng(5), subtype, 1e-9, 0.0).ktrans

    assert draw("luminal_a") == pytest.approx(draw("triple_negative"), rel=1e-6)


def test_vessels_are_connected_to_their_roots_and_to_the_lesion():
    rng = np.random.default_rng(6)
    breast = draw_breasts(rng, "b")[0]
    points, radius = grow_tree(rng, breast)
    target = np.array(breast.centre) + np.array([0.0, -25.0, 5.0])
    feeder, width = feeding_vessel(rng, points, target, 0.9)
    every = np.concatenate([points, feeder])
    grid = Grid((130, 120, 160), (1.0, 1.0, 1.0), (-10.0, -80.0, -65.0))
    volume = draw_vessels(grid, every, np.concatenate([radius, width])) > 0.02
    parts, count = label(volume, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count <= 4  # one tree a root
    assert sizes.min() > 20
    index = np.rint((target[::-1] - np.array(grid.origin)[::-1]) / 1.0).astype(int)
    assert parts[tuple(index)] > 0
