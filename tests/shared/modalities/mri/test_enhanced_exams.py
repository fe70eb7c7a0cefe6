"""Exams as enhanced multi-frame MR: they read as the classic slices that they were made of."""

import itertools
import random

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, RLELossless

from shared.errors import StudyError
from shared.modalities.mri.study import read_study
from tests.shared.dicom.enhanced_exam import ENHANCED, compressed, enhanced, of_phases, save, undefined_lengths
from tests.shared.dicom.jpeg_lossless import jpeg_lossless

TIMES = pytest.approx((-60.0, 60.0, 150.0))


def assert_like(study, exam, times):
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.grid == exam.grid
    assert study.times_s == times


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("encoding", ["lengths", "delimiters", "implicit", "implicit delimiters"])
def test_an_enhanced_exam_reads_as_the_classic_one(exam, tmp_path, apart, encoding):
    objects = of_phases(exam.datasets(), 3, apart=apart)
    if "delimiters" in encoding:
        objects = [undefined_lengths(ds) for ds in objects]
    study = read_study(save(tmp_path, objects, implicit="implicit" in encoding))
    assert_like(study, exam, TIMES)
    assert (study.acquisition.manufacturer, study.acquisition.field_strength_t) == ("SIEMENS", 1.5)


@pytest.mark.parametrize("plane", ["axial_turned", "sagittal_mirrored", "coronal"])
def test_any_order_of_frames_and_any_plane(exam, tmp_path, plane):
    slices = list(zip(exam.datasets(plane=plane), itertools.count(), strict=False))
    random.Random(5).shuffle(slices)
    count = len(slices) // 3
    ds = enhanced([ds for ds, _ in slices], [place // count for _, place in slices])
    study = read_study(save(tmp_path, [ds]))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.grid.same_space(exam.grid, tolerance_mm=1e-6)


def test_philips_tells_its_phases_by_index_and_delay(exam, tmp_path):
    study = read_study(save(tmp_path, of_phases(exam.datasets(layout="ge"), 3, style="philips")))
    assert_like(study, exam, pytest.approx((0.0, 120.0, 210.0)))


def test_an_exam_without_times_is_ordered_by_its_frames(exam, tmp_path):
    objects = of_phases(exam.datasets(layout="instance_number"), 3, style="bare")
    assert_like(read_study(save(tmp_path, objects)), exam, pytest.approx((0.0, 60.0, 120.0)))


def test_phases_as_a_series_each_with_times_of_the_file_alone(exam, tmp_path):
    objects = of_phases(exam.datasets(layout="ge_series"), 3, apart=True, style="bare")
    for number, ds in enumerate(objects):
        ds.SeriesInstanceUID = f"1.2.3.60.{number}"
    assert_like(read_study(save(tmp_path, objects)), exam, pytest.approx((0.0, 120.0, 210.0)))


def test_a_legacy_converted_object_of_each_series(exam, tmp_path):
    from highdicom import legacy

    slices = exam.datasets()
    for ds in slices:
        ds.PositionReferenceIndicator, ds.BodyPartExamined = "", "BREAST"
        ds.SoftwareVersions, ds.ManufacturerModelName, ds.DeviceSerialNumber = "1", "M", "1"
    for phase in range(3):
        source = slices[phase * 6 : phase * 6 + 6]
        made = legacy.LegacyConvertedEnhancedMRImage(source, f"1.2.3.70.{phase}", phase + 1, f"1.2.3.71.{phase}", 1)
        made.save_as(tmp_path / f"L{phase}", enforce_file_format=True)
    assert_like(read_study(tmp_path), exam, TIMES)


@pytest.mark.parametrize("kind", ["rle", "jpeg-ls", "jpeg lossless", "in pieces"])
@pytest.mark.parametrize("table", [True, False])
def test_compressed_frames(exam, tmp_path, kind, table):
    slices = exam.datasets()
    (ds,) = of_phases(slices, 3)
    if kind == "jpeg lossless":
        ds.BitsStored, ds.HighBit = 16, 15
        streams = [jpeg_lossless(piece.pixel_array.view(np.uint16)) for piece in slices]
        syntax = JPEGLosslessSV1
    else:
        syntax = RLELossless if kind == "rle" else JPEGLSLossless
        streams = []
        for piece in slices:
            piece.compress(syntax, generate_instance_uid=False)
            streams.append(pydicom.encaps.get_frame(piece.PixelData, 0, number_of_frames=1))
    if kind == "in pieces":
        streams[4] = [streams[4][:20], streams[4][20:]]
    study = read_study(save(tmp_path, [compressed(ds, syntax, streams, table=table)]))
    assert_like(study, exam, TIMES)


def test_rescale_of_each_frame(exam, tmp_path):
    slices = exam.datasets()
    slopes = [1.0 + 0.25 * (number % 3) for number in range(18)]
    for ds, slope in zip(slices, slopes, strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = slope, -10.0
    expected = exam.volume * np.array(slopes).reshape(3, 6, 1, 1) - 10.0
    study = read_study(save(tmp_path, of_phases(slices, 3)))
    np.testing.assert_allclose(study.phases, expected, rtol=1e-6)


def test_philips_scale_of_each_frame(exam, tmp_path):
    scales = [(1.0 + number % 4, 0.5) for number in range(18)]
    study = read_study(save(tmp_path, of_phases(exam.datasets(), 3, scales=scales)))
    np.testing.assert_array_equal(study.phases, exam.volume * 2.0)


def beside(exam, **tags):
    """An enhanced object of the exam that is none of its phases."""
    ds = enhanced(exam.datasets()[:4], [0] * 4, number=90)
    ds.SeriesInstanceUID = "1.2.3.80"
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def diffusion(ds):
    group = ds.SharedFunctionalGroupsSequence[0]
    group.MRDiffusionSequence = [pydicom.Dataset()]
    group.MRDiffusionSequence[0].DiffusionBValue = 800.0
    return ds


@pytest.mark.parametrize("classic", [True, False])
@pytest.mark.parametrize(
    "kind", ["diffusion by type", "b value", "localiser", "T2", "phase", "subtraction", "no groups"]
)
def test_an_enhanced_object_that_is_no_part_of_the_set_costs_nothing(exam, tmp_path, classic, kind):
    ds = {
        "diffusion by type": lambda: beside(exam, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]),
        "b value": lambda: diffusion(beside(exam)),
        "localiser": lambda: beside(exam, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]),
        "T2": lambda: beside(exam, EchoPulseSequence="SPIN"),
        "phase": lambda: beside(exam),
        "subtraction": lambda: beside(exam),
        "no groups": lambda: beside(exam, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]),
    }[kind]()
    frame_type = ds.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0]
    if kind == "phase":
        frame_type.ComplexImageComponent = "PHASE"
    if kind == "subtraction":
        frame_type.FrameType = ["DERIVED", "PRIMARY", "DYNAMIC", "SUBTRACTION"]
    if kind == "no groups":
        del ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence
    save(tmp_path / "other", [ds])
    if classic:
        exam.write(tmp_path / "dce")
    else:
        save(tmp_path / "dce", of_phases(exam.datasets(), 3))
    assert_like(read_study(tmp_path), exam, TIMES)


def test_a_b_value_of_zero_is_no_diffusion(exam, tmp_path):
    for value in (0.0, 7.23e75):  # as Philips writes everywhere, and as a tool made of it
        exam.tags = {"DiffusionBValue": value}
        assert_like(read_study(exam.write(tmp_path)), exam, TIMES)


def reason(folder):
    with pytest.raises(StudyError) as caught:
        read_study(folder)
    return caught.value.reason


@pytest.mark.parametrize("frames", [17, 19, 1 << 16, 2**31 - 1, 0, -3])
def test_another_number_of_frames_than_there_are_is_refused(exam, tmp_path, frames):
    (ds,) = of_phases(exam.datasets(), 3)
    ds.NumberOfFrames = frames
    assert reason(save(tmp_path, [ds])) == "unreadable_file"


def test_fewer_pixels_than_frames_are_refused(exam, tmp_path):
    (ds,) = of_phases(exam.datasets(), 3)
    ds.PixelData = ds.PixelData[:-2]
    assert reason(save(tmp_path, [ds])) == "unreadable_file"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.99])
def test_a_file_that_is_cut_off_is_refused(exam, tmp_path, share):
    save(tmp_path, of_phases(exam.datasets(), 3))
    data = (tmp_path / "E0").read_bytes()
    (tmp_path / "E0").write_bytes(data[: int(share * len(data))])
    assert reason(tmp_path) == "unreadable_file"


def test_frames_that_lie_nowhere_are_refused(exam, tmp_path):
    (ds,) = of_phases(exam.datasets(), 3)
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    assert reason(save(tmp_path, [ds])) in {"mixed_geometry", "missing_phase", "duplicate_slices"}
    (ds,) = of_phases(exam.datasets(), 3)
    ds.PerFrameFunctionalGroupsSequence = [pydicom.Dataset() for _ in range(18)]
    assert reason(save(tmp_path, [ds])) in {"mixed_geometry", "missing_phase", "duplicate_slices"}


def test_single_frames_as_enhanced_objects(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED
    assert_like(read_study(exam.write(tmp_path, slices)), exam, TIMES)
