"""Kinds of exams that public reports tell of: what is a phase, in which order, and which one is pre-contrast."""

import copy

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.study import read_study

SLICES = 6


def series(exam, tags, uid, *, phases=(0, 1, 2), pixels=None):
    """A further series of copies of some phases; `pixels` makes their values from the phase's number and slice."""
    slices = exam.datasets(layout="ge_series")
    result = [copy.deepcopy(slices[phase * SLICES + z]) for phase in phases for z in range(SLICES)]
    for number, ds in enumerate(result):
        phase, z = phases[number // SLICES], number % SLICES
        ds.SeriesInstanceUID, ds.SeriesNumber = f"1.2.3.{uid}.{phase}", 40 + phase
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{uid}.{phase}.{z + 1}"
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
        if pixels is not None:
            ds.PixelData = np.clip(pixels(phase, z), 0, 4095).astype("<u2").tobytes()
    return result


def silent(slices):
    """Without any tag of contrast or of temporal position."""
    for ds in slices:
        for keyword in ("ContrastBolusAgent", "ContrastBolusStartTime", "TemporalPositionIdentifier"):
            if keyword in ds:
                delattr(ds, keyword)
    return slices


def reason(folder):
    with pytest.raises(StudyError) as caught:
        read_study(folder)
    return caught.value.reason


def test_of_corrected_and_uncorrected_images_one_kind_is_taken(exam, tmp_path):
    corrected = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIS2D"], "ContentTime": "120000"}
    blurred = series(exam, corrected, "5", pixels=lambda phase, z: exam.volume[phase, z] // 2 + 40)
    study = read_study(exam.write(tmp_path, [*exam.datasets(layout="ge_series"), *blurred]))
    np.testing.assert_array_equal(study.phases, exam.volume // 2 + 40)
    assert {item.why for item in study.series_seen if not item.taken} == {
        "another version of the phases' images (ImageType)"
    }


def test_only_some_phases_corrected_for_distortion_are_refused(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for ds in slices[SLICES:]:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "DIS2D"]
    assert reason(exam.write(tmp_path, slices)) == "unclear_phases"


@pytest.mark.parametrize("later", [{}, {"ContentTime": "120000"}, {"AcquisitionTime": "120000"}])
def test_an_exam_exported_twice_is_read_once(exam, tmp_path, later):
    slices = [*exam.datasets(layout="ge_series"), *series(exam, later, "5")]
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


def test_unlike_images_of_one_kind_and_time_are_refused(exam, tmp_path):
    fat = series(exam, {}, "5", pixels=lambda phase, z: exam.volume[phase, z] // 3 + 900 + z)
    assert reason(exam.write(tmp_path, [*exam.datasets(layout="ge_series"), *fat])) == "unclear_phases"


@pytest.mark.parametrize("times", ["own", "of the phase"])
@pytest.mark.parametrize("clipped", [True, False])
def test_subtractions_without_a_word_are_told_by_their_pixels(exam, tmp_path, times, clipped):
    def difference(phase, z):
        values = exam.volume[phase, z].astype(int) - exam.volume[0, z] - (500 if clipped else 0)
        return values if clipped else values + 100

    tags = {"AcquisitionTime": "110000"} if times == "own" else {}
    slices = exam.datasets(layout="ge_series")
    slices += series(exam, tags, "5", phases=(1,), pixels=difference)
    for ds in slices:
        ds.ImageType = ["DERIVED", "SECONDARY"]
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert "subtraction" in study.notes[0]


@pytest.mark.parametrize("keyword", ["ScanOptions", "SequenceVariant"])
def test_another_suppression_is_another_sequence(exam, tmp_path, keyword):
    plain = series(
        exam, {"AcquisitionTime": "100100"}, "5", phases=(0,), pixels=lambda _, z: 4000 - exam.volume[0, z].astype(int)
    )
    slices = silent(exam.datasets())
    for ds in slices:
        setattr(ds, keyword, "FS" if keyword == "ScanOptions" else "OSP")
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*slices, *silent(plain)])).phases, exam.volume)


@pytest.mark.parametrize("time", ["100100", "113000"])
def test_another_contrast_without_a_tag_is_told_by_its_pixels(exam, tmp_path, time):
    plain = series(
        exam, {"AcquisitionTime": time}, "5", phases=(0,), pixels=lambda _, z: 4000 - exam.volume[0, z].astype(int)
    )
    study = read_study(exam.write(tmp_path, silent([*exam.datasets(), *plain])))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert "another contrast" in study.notes[0]


def test_without_a_tag_the_pixels_tell_the_injection_and_it_is_said(exam, tmp_path):
    early = series(
        exam, {"AcquisitionTime": "101000"}, "5", phases=(0,), pixels=lambda _, z: exam.volume[0, z] + z % 2 * 3
    )
    study = read_study(exam.write(tmp_path, silent([*exam.datasets(), *early])))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert "guessed" in study.notes[-1]
    assert [item.why for item in study.series_seen if not item.taken] == ["before the last phase without contrast"]


def test_without_a_tag_and_without_brightening_pre_contrast_is_missing(exam, tmp_path):
    assert reason(exam.write(tmp_path, silent(exam.datasets())[SLICES:])) == "missing_phase"


def test_an_order_of_files_made_later_does_not_count(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for number, ds in enumerate(slices):
        del ds.AcquisitionTime
        ds.SeriesTime, ds.ContentTime = "150000", ["153000", "151000", "152000"][number // SLICES]
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == (0.0, 60.0, 120.0)
    assert "60 s apart" in study.notes[0]


def test_tags_of_acquisition_that_contradict_each_other_are_refused(exam, tmp_path):
    slices = exam.datasets()
    for number, ds in enumerate(slices):
        ds.TemporalPositionIdentifier = 3 - number // SLICES
    assert reason(exam.write(tmp_path, slices)) == "unclear_phases"


def test_images_at_one_place_with_one_instance_number_are_refused(exam, tmp_path):
    slices = exam.datasets(layout="instance_number")
    for number, ds in enumerate(slices):
        ds.InstanceNumber = number % SLICES + 1
    assert reason(exam.write(tmp_path, slices)) == "unclear_phases"


@pytest.mark.parametrize("layout", ["philips", "siemens", "instance_number"])
def test_a_series_per_slice_is_one_series(exam, tmp_path, layout):
    slices = exam.datasets(layout=layout)
    for number, ds in enumerate(slices):
        ds.SeriesInstanceUID = f"1.2.3.8.{number if layout == 'siemens' else number % SLICES}"
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


@pytest.mark.parametrize("tags", [{"PixelSpacing": [0.5, 0.5]}, {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}])
def test_a_series_on_another_grid_does_not_cost_the_exam(exam, tmp_path, tags):
    other = series(exam, tags | {"AcquisitionTime": "113000"}, "5", phases=(2,))
    for number, ds in enumerate(other):
        if "ImageOrientationPatient" in tags:
            ds.ImagePositionPatient = [-6.0 + number, 4.0, -10.0]
    study = read_study(exam.write(tmp_path, [*exam.datasets(), *other]))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert [item.why for item in study.series_seen if not item.taken] == [
        "another matrix, plane or place than the phases"
    ]


@pytest.mark.parametrize("apart", [False, True], ids=["one series", "a series a breast"])
@pytest.mark.parametrize(("side", "shift"), [("right", 200.0), ("left", -200.0), ("right", 8.1)], ids=str)
def test_of_two_sagittal_slabs_the_rows_breast_is_read(exam, tmp_path, side, shift, apart):
    slices = exam.datasets(plane="sagittal")
    twins = copy.deepcopy(slices)
    for ds in twins:
        ds.ImagePositionPatient = [ds.ImagePositionPatient[0] + shift, *ds.ImagePositionPatient[1:]]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.7"
        ds.SeriesInstanceUID += ".7" if apart else ""
        ds.InstanceNumber += 100
        ds.PixelData = bytes(len(ds.PixelData))
    study = read_study(exam.write(tmp_path, [*slices, *twins]), side=side)
    np.testing.assert_array_equal(study.phases, exam.volume)


@pytest.mark.parametrize(("share", "sound"), [(0.05, True), (0.3, False)])
def test_phases_shifted_by_a_twentieth_of_a_voxel_are_read(exam, tmp_path, share, sound):
    slices = exam.datasets()
    for ds in slices[SLICES:]:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x + share * 1.25, y, z + share * 2.0]
    folder = exam.write(tmp_path, slices)
    assert sound or reason(folder) == "mixed_geometry"
    assert not sound or read_study(folder).phases.shape == exam.volume.shape


@pytest.mark.parametrize("lost", [{4, 5}, {3, 4, 5, 6}])
def test_slices_lost_in_the_middle_do_not_make_two_slabs(exam, tmp_path, lost):
    slices = [ds for number, ds in enumerate(exam.datasets(plane="sagittal")) if number % 10 not in lost]
    assert reason(exam.write(tmp_path, slices)) == "missing_slices"
