"""Slices as each vendor writes them, read back by pydicom alone."""

import numpy as np
import pydicom
import pytest

from shared.phantom.centres import CENTRES
from shared.phantom.dicom_writer import PLANES, clock, make_uid, study_date, write_series

ORIENTATION = {"A": [1, 0, 0, 0, 1, 0], "B": [0, 1, 0, 0, 0, -1], "C": [-1, 0, 0, 0, -1, 0], "D": [1, 0, 0, 0, 1, 0]}


def read_series(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def phase_of(ds, exam):
    """Phase of a slice by the vendor's own tags."""
    if CENTRES[exam.centre].series == "per_phase_untimed":
        return ds.AcquisitionNumber - 1
    return ds.TemporalPositionIdentifier - 1


@pytest.mark.parametrize("key", CENTRES)
def test_every_voxel_comes_back_to_its_place(small_exam, tmp_path, key):
    exam = small_exam(key)
    write_series(tmp_path, exam, "identity")
    seen = np.zeros((4, *exam.grid.shape), bool)
    for ds in read_series(tmp_path):
        along_columns, along_rows = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
        row_step, column_step = (float(value) for value in ds.PixelSpacing)
        rows, columns = np.mgrid[0 : ds.Rows, 0 : ds.Columns]
        # DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
        point = np.array(ds.ImagePositionPatient, float)
        points = point + columns[..., None] * column_step * along_columns + rows[..., None] * row_step * along_rows
        index = (points - np.array(exam.grid.origin)) / np.array(exam.grid.spacing[::-1])
        assert np.abs(index - np.rint(index)).max() < 1e-3
        x, y, z = np.moveaxis(np.rint(index).astype(int), -1, 0)
        phase = phase_of(ds, exam)
        values = ds.pixel_array * float(getattr(ds, "RescaleSlope", 1.0))
        np.testing.assert_allclose(values, exam.phases[phase, z, y, x], rtol=1e-6)
        seen[phase, z, y, x] = True
    assert seen.all()


@pytest.mark.parametrize("key", CENTRES)
def test_phases_are_told_apart_as_the_vendor_does(small_exam, tmp_path, key):
    exam = small_exam(key)
    write_series(tmp_path, exam, "identity")
    images = read_series(tmp_path)
    series = {ds.SeriesInstanceUID for ds in images}
    assert len(series) == (1 if key == "C" else 4)
    if key == "C":
        assert {ds.TemporalPositionIdentifier for ds in images} == {1, 2, 3, 4}
        assert len({float(ds.TriggerTime) for ds in images}) == 4
        assert len({ds.AcquisitionTime for ds in images}) == 1
        assert float(images[0].RescaleSlope) != 1.0
    else:
        assert len({ds.AcquisitionTime for ds in images}) == 4
        assert all(("ContrastBolusAgent" in ds) == (ds.AcquisitionNumber > 1) for ds in images)
        assert all(("TemporalPositionIdentifier" in ds) == (key != "B") for ds in images)
    first = images[0]
    assert first.PatientName.family_name == "PHANTOM"
    assert "PHANTOM" in first.SeriesDescription
    assert len({ds.FrameOfReferenceUID for ds in images}) == 1
    assert len({ds.SOPInstanceUID for ds in images}) == len(images)
    assert all(ds.SOPInstanceUID.startswith("2.25.") and len(ds.SOPInstanceUID) <= 64 for ds in images)
    assert float(first.EchoTime) == pytest.approx(exam.protocol.echo_ms, abs=1e-3)
    assert list(first.ImageOrientationPatient) == ORIENTATION[key]


def test_flipped_centre_stores_its_slices_descending(small_exam, tmp_path):
    write_series(tmp_path, small_exam("C"), "identity")
    images = sorted(read_series(tmp_path), key=lambda ds: ds.InstanceNumber)
    heights = [float(ds.ImagePositionPatient[2]) for ds in images[:5]]
    assert heights == sorted(heights, reverse=True)


def test_references_are_the_first_post_contrast_images_in_order(small_exam, tmp_path):
    references = write_series(tmp_path, small_exam("A"), "identity")
    assert [ds.InstanceNumber for ds in references] == [1, 2, 3, 4, 5]
    assert {ds.AcquisitionNumber for ds in references} == {2}


def test_slices_of_a_plane_by_hand():
    volume = np.arange(24).reshape(2, 3, 4)
    assert PLANES["axial"].slices_of(volume).tolist() == volume.tolist()
    assert PLANES["axial_flipped"].slices_of(volume)[0].tolist() == volume[0, ::-1, ::-1].tolist()
    # Sagittal: one slice per x, rows from the head (largest z) to the feet, columns along y.
    assert PLANES["sagittal"].slices_of(volume)[1].tolist() == [volume[1, :, 1].tolist(), volume[0, :, 1].tolist()]


def test_clock_writes_hours_minutes_and_hundredths():
    assert clock(10 * 3600 + 12 * 60 + 30) == "101230.000000"
    assert clock(59.5) == "000059.500000"


def test_uid_is_the_hash_of_its_parts():
    assert make_uid("series", "identity", 1) == make_uid("series", "identity", 1)
    assert len({make_uid("series", "identity", part) for part in range(100)}) == 100
    assert int(make_uid("x").removeprefix("2.25.")) < 2**122


def test_study_date_is_a_date_within_five_years(small_exam):
    date = study_date(small_exam("A"))
    assert "20180101" <= date <= "20221228"
    assert 1 <= int(date[4:6]) <= 12
    assert 1 <= int(date[6:]) <= 28
