"""The federation on disk, read back by pydicom alone: geometry, tags, masks, determinism, resumption."""

import csv
import hashlib
import json
import shutil

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from shared.errors import ConfigError
from shared.phantom.centres import CENTRES
from shared.phantom.exam import PhantomSettings, make_exam
from shared.phantom.generate import MARKER, generate_federation

SETTINGS = PhantomSettings(cases_per_site=1, cases_external=1, seed=7)


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("federation")
    calls = []
    generate_federation(root, SETTINGS, on_progress=lambda done, total: calls.append((done, total)), workers=1)
    assert calls == [(done, 4) for done in range(5)]
    return root


@pytest.fixture(scope="module")
def row_of(root):
    tables = {key: (root / centre.site / "cases.csv").read_text(encoding="utf-8") for key, centre in CENTRES.items()}
    return {key: next(csv.DictReader(table.splitlines())) for key, table in tables.items()}


def read_series(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("key", CENTRES)
def test_every_voxel_comes_back_to_its_place(root, row_of, key):
    exam = make_exam(key, 0, SETTINGS)
    seen = np.zeros(exam.phases.shape, bool)
    starts = sorted({float(ds.ContentTime) for ds in read_series(root / CENTRES[key].site / row_of[key]["path"])})
    for ds in read_series(root / CENTRES[key].site / row_of[key]["path"]):
        phase = starts.index(float(ds.ContentTime))
        along_columns, along_rows = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
        row_step, column_step = (float(value) for value in ds.PixelSpacing)
        rows, columns = np.mgrid[0 : ds.Rows, 0 : ds.Columns]
        # DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
        point = np.array(ds.ImagePositionPatient, float)
        points = point + columns[..., None] * column_step * along_columns + rows[..., None] * row_step * along_rows
        index = (points - np.array(exam.grid.origin)) / np.array(exam.grid.spacing[::-1])
        assert np.abs(index - np.rint(index)).max() < 1e-3
        x, y, z = np.moveaxis(np.rint(index).astype(int), -1, 0)
        values = ds.pixel_array * float(getattr(ds, "RescaleSlope", 1.0))
        np.testing.assert_allclose(values, exam.phases[phase, z, y, x], rtol=1e-6)
        seen[phase, z, y, x] = True
    assert seen.all()


@pytest.mark.parametrize("key", CENTRES)
def test_phases_are_told_apart_as_the_vendor_does(root, row_of, key):
    images = read_series(root / CENTRES[key].site / row_of[key]["path"])
    exam = make_exam(key, 0, SETTINGS)
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
    expected = {"A": [1, 0, 0, 0, 1, 0], "B": [0, 1, 0, 0, 0, -1], "C": [-1, 0, 0, 0, -1, 0], "D": [1, 0, 0, 0, 1, 0]}
    assert list(first.ImageOrientationPatient) == expected[key]


def test_flipped_centre_stores_its_slices_descending(root, row_of):
    images = read_series(root / "centre-c" / row_of["C"]["path"])
    images.sort(key=lambda ds: ds.InstanceNumber)
    heights = [float(ds.ImagePositionPatient[2]) for ds in images[: len(images) // 4]]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("key", CENTRES)
def test_lesion_segmentation_comes_back_equal(root, row_of, key):
    exam = make_exam(key, 0, SETTINGS)
    seg = highdicom.seg.segread(root / CENTRES[key].site / row_of[key]["mask"])
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


def test_tissue_masks_come_back_equal(root, row_of):
    exam = make_exam("B", 0, SETTINGS)
    for column, mask in (("breast_mask", exam.breast), ("fibroglandular_mask", exam.fibroglandular)):
        image = sitk.ReadImage(str(root / "centre-b" / row_of["B"][column]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image).astype(bool), mask)
        assert image.GetOrigin() == pytest.approx(exam.grid.origin, abs=1e-3)
        assert image.GetSpacing() == pytest.approx(exam.grid.spacing[::-1], abs=1e-5)
        assert image.GetDirection() == pytest.approx(exam.grid.direction, abs=1e-6)


def test_table_says_what_the_exam_is(root, row_of):
    for key, row in row_of.items():
        exam = make_exam(key, 0, SETTINGS)
        assert (row["patient_id"], row["side"], row["subtype"]) == (exam.patient_id, exam.side, exam.labels.subtype)
        assert (row["phantom"], row["malignant"]) == ("1", "1")
        assert (root / CENTRES[key].site / "preview.png").stat().st_size > 10_000


def test_killed_run_goes_on_and_ends_in_the_same_bytes(root, row_of, tmp_path):
    copy = tmp_path / "federation"
    shutil.copytree(root, copy)
    (copy / MARKER).unlink()
    (copy / "centre-b" / "cases.csv").unlink()
    shutil.rmtree(copy / "centre-b" / row_of["B"]["path"])
    (copy / "centre-b" / ".making-left").mkdir()
    untouched = copy / "centre-a" / row_of["A"]["mask"]
    before = untouched.stat().st_mtime_ns
    calls = []
    generate_federation(copy, SETTINGS, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(3, 4), (4, 4)]
    assert untouched.stat().st_mtime_ns == before
    assert digest(copy) == digest(root)


def test_complete_federation_is_left_alone(root):
    before = digest(root)
    stamp = (root / MARKER).stat().st_mtime_ns
    calls = []
    generate_federation(root, SETTINGS, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(4, 4)]
    assert (root / MARKER).stat().st_mtime_ns == stamp
    assert digest(root) == before


def test_other_settings_are_refused_with_the_remedy(root):
    with pytest.raises(ConfigError, match=r"shift 0\.6 there, 1\.0 wanted.*delete that folder or choose another"):
        generate_federation(root, PhantomSettings(1, 1, shift=1.0, seed=7), workers=1)


def test_a_site_that_is_no_phantom_is_never_written_over(tmp_path):
    site = tmp_path / "centre-c"
    site.mkdir()
    (site / "cases.csv").write_text("patient_id\n")
    with pytest.raises(ConfigError, match="no phantom"):
        generate_federation(tmp_path, SETTINGS, workers=1)
    assert (site / "cases.csv").read_text() == "patient_id\n"


def test_marker_holds_the_settings(root):
    marker = json.loads((root / MARKER).read_text())
    assert marker["complete"]
    assert marker["settings"]["seed"] == 7


@pytest.mark.slow
def test_several_workers_write_the_same_bytes(root, tmp_path):
    generate_federation(tmp_path, SETTINGS, workers=2)
    assert digest(tmp_path) == digest(root)
