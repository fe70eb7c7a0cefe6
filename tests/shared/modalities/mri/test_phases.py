"""Which series make the dynamic set, which phase is pre-contrast, and what is left out."""

import copy

import numpy as np
import pytest

from shared.dicom.index import index_folder
from shared.errors import StudyError
from shared.modalities.mri.phases import find_dynamic_set
from shared.modalities.mri.study import read_study

LOCALISER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "EchoTime": 1.6}
SUBTRACTION = {"ImageType": ["DERIVED", "SECONDARY", "SUBTRACT"]}
T2 = {"ScanningSequence": "SE", "RepetitionTime": 4000.0, "EchoTime": 90.0}
DIFFUSION = {"ScanningSequence": "EP", "RepetitionTime": 9000.0, "EchoTime": 70.0, "DiffusionBValue": 800.0}
PHASE_MAP = {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}


def another_series(exam, tags, series="88", *, phase=0, spacing=None):
    """A copy of one phase's slices as a series of its own."""
    count = len(exam.volume[0])
    result = [copy.deepcopy(ds) for ds in exam.datasets()[phase * count : (phase + 1) * count]]
    for number, ds in enumerate(result):
        ds.SeriesInstanceUID, ds.SOPInstanceUID = f"1.2.3.{series}", f"1.2.3.{series}.{number + 1}"
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
        if spacing:
            ds.PixelSpacing = spacing
    return result


@pytest.mark.parametrize(
    "tags", [LOCALISER, SUBTRACTION, T2, DIFFUSION, PHASE_MAP], ids=["localiser", "subtraction", "t2", "dwi", "phase"]
)
@pytest.mark.parametrize("layout", ["siemens", "philips"])
def test_series_that_are_no_phase_are_left_out(exam, tmp_path, tags, layout):
    slices = [*exam.datasets(layout=layout), *another_series(exam, tags, spacing=[3.0, 3.0])]
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


def test_a_t2_series_of_the_same_geometry_is_left_out(exam, tmp_path):
    slices = [*exam.datasets(layout="ge_series"), *another_series(exam, T2)]
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


def test_a_faulty_series_outside_the_dynamic_set_does_no_harm(exam, tmp_path):
    t2 = another_series(exam, T2)
    del t2[2]
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*exam.datasets(), *t2])).phases, exam.volume)


def test_diffusion_with_more_volumes_than_the_dynamic_set_is_not_taken_for_it(exam, tmp_path):
    dwi = [ds for number in range(5) for ds in another_series(exam, DIFFUSION, f"7{number}")]
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*exam.datasets(), *dwi])).phases, exam.volume)


def test_registered_copies_beside_the_acquired_phases_are_left_out(exam, tmp_path):
    copies = [
        ds
        for phase in range(3)
        for ds in another_series(exam, {"ImageType": ["DERIVED", "SECONDARY", "MOCO"]}, f"6{phase}", phase=phase)
    ]
    for ds in copies:
        ds.PixelData = bytes(len(ds.PixelData))
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*copies, *exam.datasets()])).phases, exam.volume)


def test_derived_phases_alone_are_taken(exam, tmp_path):
    exam.tags = {"ImageType": ["DERIVED", "SECONDARY"]}  # I-SPY's cropped series
    np.testing.assert_array_equal(read_study(exam.write(tmp_path)).phases, exam.volume)


@pytest.mark.parametrize("apart", [False, True], ids=["one series", "series apart"])
def test_of_dixon_images_water_is_taken(exam, tmp_path, apart):
    slices = exam.datasets()
    for ds in slices:
        ds.ImageType = ["DERIVED", "PRIMARY", "DIXON", "WATER"]
    fat = copy.deepcopy(slices)
    for number, ds in enumerate(fat):
        ds.ImageType, ds.SOPInstanceUID = ["DERIVED", "PRIMARY", "DIXON", "FAT"], f"1.2.3.55.{number}"
        ds.PixelData = bytes(len(ds.PixelData))
        if apart:
            ds.SeriesInstanceUID += ".5"
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*fat, *slices])).phases, exam.volume)


def test_a_pre_contrast_series_beside_post_contrast_phases_told_apart_by_trigger_time(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for number, ds in enumerate(slices[6:]):
        ds.SeriesInstanceUID, ds.InstanceNumber, ds.SeriesNumber = "1.2.3.50", number + 1, 4
        ds.AcquisitionNumber = 1
        ds.TriggerTime = 90_000.0 * (number // 6)
        ds.AcquisitionTime = ds.ContentTime = ds.SeriesTime = slices[6].AcquisitionTime
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == pytest.approx((0.0, 120.0, 210.0))


def test_a_pre_contrast_series_beside_post_contrast_phases_without_any_time(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for number, ds in enumerate(slices):
        for keyword in ("AcquisitionTime", "ContentTime", "SeriesTime", "AcquisitionNumber"):
            delattr(ds, keyword)
        if number >= 6:
            ds.SeriesInstanceUID, ds.InstanceNumber, ds.SeriesNumber = "1.2.3.50", number + 1, 4
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == (0.0, 60.0, 120.0)


def test_a_pre_contrast_series_beside_one_series_of_all_post_contrast_phases(exam, tmp_path):
    slices = exam.datasets()
    for number, ds in enumerate(slices[6:]):
        ds.SeriesInstanceUID, ds.InstanceNumber = "1.2.3.50", number + 1
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == pytest.approx((-60.0, 60.0, 150.0))


def test_of_two_pre_contrast_phases_the_last_is_taken(exam, tmp_path):
    slices = [*exam.datasets(), *another_series(exam, {"AcquisitionTime": "101200"})]
    study = read_study(exam.write(tmp_path, slices))
    assert study.times_s == pytest.approx((-60.0, 60.0, 150.0))


def test_contrast_tags_alone_tell_the_pre_contrast_phase(exam, tmp_path):
    early = another_series(exam, {"AcquisitionTime": "101200"})
    study = read_study(exam.write(tmp_path, [*exam.datasets(layout="ge_series"), *early]))
    assert study.times_s == pytest.approx((0.0, 120.0, 210.0))


def test_phases_are_ordered_by_time_not_by_series_number(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.SeriesNumber = 100 - ds.SeriesNumber
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


def test_without_any_time_series_numbers_order_nominal_times(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for ds in slices:
        for keyword in ("AcquisitionTime", "ContentTime", "SeriesTime", "AcquisitionNumber"):
            delattr(ds, keyword)
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == (0.0, 60.0, 120.0)


def test_slices_taken_one_after_another_keep_the_start_of_their_phase(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for number, ds in enumerate(slices):
        second = int(float(ds.AcquisitionTime[4:])) + number % 6
        ds.AcquisitionTime = f"{ds.AcquisitionTime[:4]}{second:02d}.00"
    assert read_study(exam.write(tmp_path, slices)).times_s == pytest.approx((0.0, 120.0, 210.0))


def test_two_volumes_of_one_time_are_refused(exam, tmp_path):
    slices = exam.datasets(layout="ge_series")
    for ds in slices:
        ds.AcquisitionTime = ds.ContentTime = ds.SeriesTime = "101000"
        ds.SeriesNumber = ds.AcquisitionNumber = 1
    with pytest.raises(StudyError, match="unclear_phases: 3 series of one kind and AcquisitionTime"):
        find_dynamic_set(index_folder(exam.write(tmp_path, slices)))


def test_every_phase_after_the_injection_means_the_first_is_missing(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.ContrastBolusStartTime, ds.ContrastBolusAgent = "100500", "AGENT"
    with pytest.raises(StudyError, match="every phase begins after the contrast injection"):
        find_dynamic_set(index_folder(exam.write(tmp_path, slices)))


def test_every_phase_before_the_injection_means_no_post_contrast_phase(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.ContrastBolusStartTime, ds.ContrastBolusAgent = "103000", ""
    with pytest.raises(StudyError, match="no phase begins after the contrast injection"):
        find_dynamic_set(index_folder(exam.write(tmp_path, slices)))


@pytest.mark.parametrize("bolus", ["100500", "103000"])
def test_a_bolus_time_outside_the_phases_is_not_believed_against_the_agent(exam, tmp_path, bolus):
    slices = exam.datasets()
    for ds in slices:
        ds.ContrastBolusStartTime = bolus
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == pytest.approx((0.0, 120.0, 210.0))
    assert study.notes == ("ContrastBolusStartTime lies outside the phases, and is not believed.",)


def test_a_bolus_time_hours_away_is_no_evidence(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices[6:]:
        ds.ContrastBolusStartTime = "000000"  # a console's default
    study = read_study(exam.write(tmp_path, slices))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.times_s == pytest.approx((0.0, 120.0, 210.0))


def test_a_duration_longer_than_the_phases_interval_is_not_the_phases(exam, tmp_path):
    exam.tags = {"AcquisitionDuration": 400.0}  # of the whole dynamic series
    assert read_study(exam.write(tmp_path, layout="ge_series")).times_s == pytest.approx((0.0, 120.0, 210.0))


def test_only_subtractions_are_no_dynamic_set(exam, tmp_path):
    exam.tags = SUBTRACTION
    with pytest.raises(StudyError, match="no MR images that could be a phase"):
        read_study(exam.write(tmp_path))


def test_an_mr_image_of_several_frames_is_refused(exam, tmp_path):
    exam.tags = {"NumberOfFrames": 2}
    with pytest.raises(StudyError, match="several frames"):
        read_study(exam.write(tmp_path))
