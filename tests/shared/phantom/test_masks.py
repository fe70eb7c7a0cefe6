"""The ground truth on disk, read back by highdicom and SimpleITK alone."""

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk

from shared.phantom.centres import CENTRES
from shared.phantom.dicom_writer import write_series
from shared.phantom.masks import write_lesion, write_mask


@pytest.mark.parametrize("key", CENTRES)
def test_lesion_segmentation_comes_back_equal(small_exam, tmp_path, key):
    exam = small_exam(key)
    images = write_series(tmp_path / "dicom", exam, "identity")
    write_lesion(tmp_path / "lesion.dcm", exam, images, "identity")
    seg = highdicom.seg.segread(tmp_path / "lesion.dcm")
    volume = np.zeros(exam.lesion.shape, bool)
    for frame, item in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        shared = seg.SharedFunctionalGroupsSequence[0]
        along_columns, along_rows = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
        row_step, column_step = shared.PixelMeasuresSequence[0].PixelSpacing
        rows, columns = np.nonzero(frame)
        point = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        points = point + np.outer(columns, column_step * along_columns) + np.outer(rows, row_step * along_rows)
        index = np.rint((points - np.array(exam.grid.origin)) / np.array(exam.grid.spacing[::-1])).astype(int)
        volume[index[:, 2], index[:, 1], index[:, 0]] = True
    np.testing.assert_array_equal(volume, exam.lesion)


def test_lesion_segmentation_has_the_same_bytes_each_time(small_exam, tmp_path):
    exam = small_exam("A")
    images = write_series(tmp_path / "dicom", exam, "identity")
    for name in ("first.dcm", "second.dcm"):
        write_lesion(tmp_path / name, exam, images, "identity")
    assert (tmp_path / "first.dcm").read_bytes() == (tmp_path / "second.dcm").read_bytes()


def test_tissue_mask_comes_back_equal_on_its_grid(small_exam, tmp_path):
    exam = small_exam("B")
    write_mask(tmp_path / "new" / "breast.nii.gz", exam.breast, exam.grid)
    image = sitk.ReadImage(str(tmp_path / "new" / "breast.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).astype(bool), exam.breast)
    assert image.GetOrigin() == pytest.approx(exam.grid.origin, abs=1e-3)
    assert image.GetSpacing() == pytest.approx(exam.grid.spacing[::-1], abs=1e-5)
    assert image.GetDirection() == pytest.approx(exam.grid.direction, abs=1e-6)
