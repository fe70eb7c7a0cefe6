"""One exam: its anatomy, its masks, its seed."""

import numpy as np
import pytest

from shared.phantom.exam import make_exam
from shared.phantom.parenchyma import GLAND_SHARE
from shared.phantom.settings import PhantomSettings

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
