"""NIfTI exams as MAMA-MIA stores them."""

import numpy as np
import pytest
import SimpleITK as sitk

from shared.errors import StudyError
from shared.modalities.mri import nifti_phases
from shared.modalities.mri.study import read_study
from shared.types import Grid
from tests.images import to_image


@pytest.fixture
def nifti(exam, tmp_path):
    for phase, volume in enumerate(exam.volume):
        image = sitk.DICOMOrient(to_image(volume.astype(np.float32), exam.grid), "PIR")
        sitk.WriteImage(image, str(tmp_path / f"CASE_9_{phase:04d}.nii.gz"))
    return tmp_path


def reason(function, *args, **kwargs):
    with pytest.raises(StudyError) as caught:
        function(*args, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("below", ["", "CASE_9"])
def test_a_folder_or_a_prefix_of_phases(exam, nifti, below):
    study = read_study(nifti / below)
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.grid.same_space(exam.grid, tolerance_mm=1e-4)
    assert study.times_s == (0.0, 60.0, 120.0)


def test_given_times_are_used_and_the_first_is_not_after_injection(nifti):
    assert read_study(nifti, times_s=(-30.0, 80.0, 200.0)).times_s == (-30.0, 80.0, 200.0)
    assert read_study(nifti, times_s=(20.0, 80.0, 200.0)).times_s == (0.0, 60.0, 180.0)
    assert reason(read_study, nifti, times_s=(0.0, 80.0)) == "missing_phase"
    assert reason(read_study, nifti, times_s=(0.0, 80.0, 70.0)) == "missing_phase"


def test_only_the_earliest_post_contrast_phases_are_read(exam, nifti, monkeypatch):
    monkeypatch.setattr(nifti_phases, "MOST_POST_PHASES", 1)
    study = read_study(nifti, times_s=(0.0, 80.0, 200.0))
    np.testing.assert_array_equal(study.phases, exam.volume[:2])
    assert study.times_s == (0.0, 80.0)


def test_a_number_left_out_or_a_single_phase_is_refused(nifti):
    (nifti / "CASE_9_0001.nii.gz").unlink()
    assert reason(read_study, nifti) == "missing_phase"
    (nifti / "CASE_9_0002.nii.gz").unlink()
    assert reason(read_study, nifti) == "missing_phase"


def test_two_exams_in_a_folder_need_a_prefix(exam, nifti):
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(nifti / "OTHER_0000.nii.gz"))
    assert reason(read_study, nifti) == "several_studies"
    np.testing.assert_array_equal(read_study(nifti / "CASE_9").phases, exam.volume)


def test_phases_on_unlike_grids_are_refused(exam, nifti):
    moved = Grid(exam.grid.shape, (2.0, 1.5, 1.3), exam.grid.origin)
    sitk.WriteImage(to_image(exam.volume[1].astype(np.float32), moved), str(nifti / "CASE_9_0001.nii.gz"))
    assert reason(read_study, nifti) == "mixed_geometry"
