"""What a study must be before a pixel of it is used: scenarios 19 to 25 and 27 of the project's faults."""

import itertools
import random
import shutil

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from shared.dicom.index import read_headers
from shared.errors import StudyError
from shared.modalities.mri import phases
from shared.modalities.mri.study import assemble_study, read_study

LAYOUTS = ["siemens", "ge", "ge_series", "philips", "acquisition_number", "acquisition_time", "instance_number"]
PLANES = {
    "axial": "axial",
    "axial_descending": "axial",
    "axial_turned": "axial",
    "axial_mirrored": "axial",
    "sagittal": "sagittal",
    "sagittal_mirrored": "sagittal",
    "coronal": "coronal",
}


def reason(path, **kwargs):
    with pytest.raises(StudyError) as caught:
        read_study(path, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_vendors_layout_gives_the_same_phases(exam, tmp_path, layout):
    study = read_study(exam.write(tmp_path, layout=layout))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.phases.dtype == np.float32
    assert study.grid == exam.grid


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("siemens", (-60.0, 60.0, 150.0)),  # from ContrastBolusStartTime
        ("ge", (0.0, 120.0, 210.0)),  # no bolus time: from the pre-contrast phase
        ("ge_series", (0.0, 120.0, 210.0)),
        ("philips", (0.0, 105.0, 210.0)),  # TemporalResolution
        ("acquisition_time", (0.0, 120.0, 210.0)),
        ("acquisition_number", (0.0, 60.0, 120.0)),  # no time at all: nominal
        ("instance_number", (0.0, 60.0, 120.0)),
    ],
)
def test_times_are_seconds_after_injection(exam, tmp_path, layout, expected):
    assert read_study(exam.write(tmp_path, layout=layout)).times_s == pytest.approx(expected)


def test_the_pre_contrast_phases_duration_is_taken_off(exam, tmp_path):
    exam.tags = {"AcquisitionDuration": 50.0}
    assert read_study(exam.write(tmp_path, layout="ge_series")).times_s == pytest.approx((-50.0, 70.0, 160.0))


def test_an_exam_across_midnight_keeps_its_order(exam, tmp_path):
    exam.injection = 24 * 3600 + 30.0  # pre at 23:59:30, posts after midnight
    study = read_study(exam.write(tmp_path, layout="siemens"))
    assert study.times_s == pytest.approx((-60.0, 60.0, 150.0))
    np.testing.assert_array_equal(study.phases, exam.volume)


def test_facts_of_the_acquisition_are_kept(exam, tmp_path):
    study = read_study(exam.write(tmp_path, layout="siemens", plane="sagittal"))
    assert (study.acquisition.manufacturer, study.acquisition.field_strength_t) == ("SIEMENS", 1.5)


def test_only_the_earliest_post_contrast_phases_are_read(exam, tmp_path, monkeypatch):
    monkeypatch.setattr(phases, "MOST_POST_PHASES", 1)
    study = read_study(exam.write(tmp_path))
    np.testing.assert_array_equal(study.phases, exam.volume[:2])
    assert len(study.times_s) == 2


def test_any_nesting_and_any_file_name(exam, tmp_path):
    for number, ds in enumerate(exam.datasets()):
        folder = tmp_path.joinpath(*["deep"] * (number % 4), f"S{number % 3}")
        exam.write(folder, [ds], name=["IM{0}", "{0}.IMA", "slice {0}.dcm", "a.b.{0}.51"][number % 4].format(number))
    (tmp_path / "README").write_text("nothing to see")
    (tmp_path / "Thumbs.db").write_bytes(b"\0" * 300)
    (tmp_path / "report.txt").write_text("text")
    (tmp_path / ".DS_Store").write_bytes(b"")
    np.testing.assert_array_equal(read_study(tmp_path).phases, exam.volume)


def test_the_same_files_given_by_name(exam, tmp_path):
    exam.write(tmp_path)
    files = sorted(tmp_path.iterdir(), reverse=True)
    np.testing.assert_array_equal(assemble_study(read_headers(files), None).phases, exam.volume)


@pytest.mark.parametrize("plane", PLANES)
def test_scenario_23_flipped_orientations_give_the_same_lps_volume(exam, tmp_path, plane):
    study = read_study(exam.write(tmp_path, plane=plane))
    np.testing.assert_array_equal(study.phases, exam.volume)
    assert study.grid.same_space(exam.grid, tolerance_mm=1e-6)
    assert study.grid.direction == exam.grid.direction
    assert study.acquisition.orientation == PLANES[plane]


JUNK = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "text": b"not an image at all" * 20,
    "preamble only": b"\0" * 128 + b"DICM",
    "garbage after the mark": b"\0" * 128 + b"DICM" + bytes(range(256)) * 4,
}


@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_scenario_19_junk_named_dcm_is_refused(exam, tmp_path, content):
    exam.write(tmp_path)
    (tmp_path / "extra.dcm").write_bytes(content)
    assert reason(tmp_path) == "unreadable_file"


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_scenario_19_a_truncated_slice_is_refused(exam, tmp_path, share):
    exam.write(tmp_path, name="{number}.dcm")
    path = tmp_path / "4.dcm"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert reason(tmp_path) == "unreadable_file"


def test_scenario_19_an_empty_file_without_a_suffix_is_refused(exam, tmp_path):
    exam.write(tmp_path)
    (tmp_path / "17").write_bytes(b"")
    assert reason(tmp_path) == "unreadable_file"


def test_scenario_19_every_cut_of_a_header_is_refused(exam, tmp_path):
    exam.write(tmp_path)
    data = (tmp_path / "4").read_bytes()
    for length in range(132, 700, 29):
        (tmp_path / "4").write_bytes(data[:length])
        assert reason(tmp_path) == "unreadable_file"


@pytest.mark.parametrize("spacing", [None, [0.0, 1.0], [-1.0, 1.0], "", [1.0]])
def test_scenario_20_missing_or_zero_pixel_spacing_is_refused(exam, tmp_path, spacing):
    slices = exam.datasets()
    if spacing is None:
        del slices[7].PixelSpacing
    else:
        slices[7].PixelSpacing = spacing
    assert reason(exam.write(tmp_path, slices)) == "no_pixel_spacing"


def test_scenario_21_a_missing_pre_contrast_phase_is_refused(exam, tmp_path):
    assert reason(exam.write(tmp_path, exam.datasets()[6:])) == "missing_phase"


def test_scenario_21_a_missing_first_temporal_position_is_refused(exam, tmp_path):
    assert reason(exam.write(tmp_path, exam.datasets(layout="philips")[6:])) == "missing_phase"


def test_scenario_21_a_missing_middle_temporal_position_is_refused(exam, tmp_path):
    slices = exam.datasets(layout="philips")
    assert reason(exam.write(tmp_path, slices[:6] + slices[12:])) == "missing_phase"


def test_scenario_21_without_a_post_contrast_phase_it_is_refused(exam, tmp_path):
    assert reason(exam.write(tmp_path, exam.datasets()[:6])) == "missing_phase"


def test_scenario_21_phases_of_another_geometry_are_refused(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices[6:12]:
        ds.PixelSpacing = [2.5, 2.25]
    assert reason(exam.write(tmp_path, slices)) == "mixed_geometry"


def test_scenario_21_a_shifted_phase_is_refused(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices[6:12]:
        ds.ImagePositionPatient = [value + 3.0 for value in ds.ImagePositionPatient]
    assert reason(exam.write(tmp_path, slices)) == "mixed_geometry"


@pytest.mark.parametrize("layout", ["siemens", "ge", "philips", "instance_number"])
@pytest.mark.parametrize("gone", [6, 8, 11])
def test_scenario_22_a_lost_slice_is_refused(exam, tmp_path, layout, gone):
    slices = exam.datasets(layout=layout)
    del slices[gone]
    assert reason(exam.write(tmp_path, slices)) == "missing_slices"


def test_scenario_22_a_gap_in_every_phase_is_refused(exam, tmp_path):
    slices = [ds for number, ds in enumerate(exam.datasets()) if number % 6 != 2]
    assert reason(exam.write(tmp_path, slices)) == "missing_slices"


@pytest.mark.parametrize("layout", ["siemens", "ge", "philips"])
def test_scenario_22_two_unlike_images_at_one_place_are_refused(exam, tmp_path, layout):
    slices = exam.datasets(layout=layout)
    twin = pydicom.dcmread(pydicom.filebase.DicomBytesIO(_bytes(slices[8])))
    twin.SOPInstanceUID = "1.2.3.99"
    twin.InstanceNumber = 99
    assert reason(exam.write(tmp_path, [*slices, twin])) == "duplicate_slices"


def test_scenario_22_one_instance_in_two_unlike_files_is_refused(exam, tmp_path):
    exam.write(tmp_path)
    data = bytearray((tmp_path / "8").read_bytes())
    data[-1] ^= 1
    (tmp_path / "copy").write_bytes(data)
    assert reason(tmp_path) == "duplicate_slices"


def test_scenario_22_true_copies_of_a_file_are_dropped(exam, tmp_path):
    exam.write(tmp_path)
    shutil.copy(tmp_path / "8", tmp_path / "copy of 8")
    np.testing.assert_array_equal(read_study(tmp_path).phases, exam.volume)


# Without shrinking: an example costs a study's files, and the seed already reproduces it.
@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(seed=st.integers(0, 2**32), layout=st.sampled_from(LAYOUTS), plane=st.sampled_from(sorted(PLANES)))
def test_scenario_22_any_shuffle_of_slices_gives_the_same_volume(exam, tmp_path_factory, seed, layout, plane):
    slices = exam.datasets(layout=layout, plane=plane)
    random.Random(seed).shuffle(slices)
    folder = exam.write(tmp_path_factory.mktemp("shuffled"), slices)
    np.testing.assert_array_equal(read_study(folder).phases, exam.volume)


def test_scenario_24_rescale_slopes_are_applied_slice_by_slice(exam, tmp_path):
    slices = exam.datasets()
    slopes = [1.0 + 0.25 * (number % 3) for number in range(18)]
    for ds, slope in zip(slices, slopes, strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = slope, -10.0
    expected = exam.volume * np.array(slopes).reshape(3, 6, 1, 1) - 10.0
    np.testing.assert_allclose(read_study(exam.write(tmp_path, slices)).phases, expected, rtol=1e-6)


def test_scenario_24_monochrome1_reads_as_monochrome2(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.PixelData = (4095 - ds.pixel_array).astype("<u2").tobytes()
        ds.RescaleSlope, ds.RescaleIntercept = 2.0, 1.0
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume * 2.0 + 1.0)


OWNER = "Philips MR Imaging DD 001"


def with_scale(ds, slope, scale, before=0):
    """The slice with Philips' scale, in the block after so many others; `slope` is that of the display."""
    ds.RescaleSlope = slope
    for number in range(before):
        ds.private_block(0x2005, f"OTHER {number}", create=True).add_new(0x0E, "FL", 77.0)
    ds.private_block(0x2005, OWNER, create=True).add_new(0x0E, "FL", scale)
    return ds


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_philips_scale_undoes_the_slope_of_the_display(exam, tmp_path, before, implicit):
    """Stored x slope / (slope x scale): a series with another slope has the same values (Chenevert 2014)."""
    slices = exam.datasets()
    for number, ds in enumerate(slices):
        with_scale(ds, 1.4 if number >= 6 else 1.0, 0.5 if number < 12 else 0.25, before)
        if implicit:
            ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    expected = exam.volume * np.array([2.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, expected)


def test_philips_scale_with_an_intercept(exam, tmp_path):
    slices = [with_scale(ds, 2.0, 0.5) for ds in exam.datasets()]
    for ds in slices:
        ds.RescaleIntercept = -10.0
    expected = (exam.volume * 2.0 - 10.0) / (2.0 * 0.5)
    np.testing.assert_allclose(read_study(exam.write(tmp_path, slices)).phases, expected, rtol=1e-6)


def test_a_tag_like_philips_scale_of_another_owner_is_none(exam, tmp_path):
    slices = exam.datasets()
    for ds in slices:
        ds.private_block(0x2005, "Philips MR Imaging DD 002", create=True).add_new(0x0E, "FL", 0.5)
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


@pytest.mark.parametrize("layout", ["siemens", "philips"])
@pytest.mark.parametrize("scaled", [0, 6])
def test_slopes_that_differ_between_phases_are_a_fault_without_a_scale_in_all(exam, tmp_path, layout, scaled):
    slices = exam.datasets(layout=layout)
    for number, ds in enumerate(slices):
        ds.RescaleSlope, ds.RescaleIntercept = (1.0 if number < 6 else 1.4), 0.0
        if number < scaled:
            with_scale(ds, 1.0, 0.5)
    assert reason(exam.write(tmp_path, slices)) == "unequal_scale"


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(exam, tmp_path, scale):
    slices = [with_scale(ds, 1.0, scale) for ds in exam.datasets()]
    assert reason(exam.write(tmp_path, slices)) == "unreadable_file"


def test_scenario_24_a_slope_of_zero_is_refused(exam, tmp_path):
    exam.tags = {"RescaleSlope": 0, "RescaleIntercept": 0}
    assert reason(exam.write(tmp_path)) == "unreadable_file"


@pytest.mark.parametrize("keyword", ["Laterality", "ImageLaterality"])
def test_scenario_25_a_laterality_that_contradicts_the_row_is_refused(exam, tmp_path, keyword):
    exam.tags = {keyword: "L"}
    exam.write(tmp_path)
    assert reason(tmp_path, side="right") == "laterality_conflict"
    np.testing.assert_array_equal(read_study(tmp_path, side="left").phases, exam.volume)


def test_scenario_25_both_breasts_conflict_with_neither(exam, tmp_path):
    exam.tags = {"Laterality": "B"}
    exam.write(tmp_path)
    for side in ("left", "right"):
        assert read_study(tmp_path, side=side).phases.shape == exam.volume.shape


@pytest.mark.parametrize("name", ["more.zip", "more.tar", "slices.tar.gz", "x.7z"])
def test_scenario_27_archives_are_refused(exam, tmp_path, name):
    exam.write(tmp_path)
    (tmp_path / name).write_bytes(b"PK\x03\x04../../etc/passwd")
    assert reason(tmp_path) == "unreadable_file"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_scenario_27_links_out_of_the_folder_are_refused(exam, tmp_path, what):
    outside = exam.write(tmp_path / "outside")
    inside = exam.write(tmp_path / "study", exam.datasets()[1:])
    (inside / "link").symlink_to(outside / "0" if what == "file" else outside)
    assert reason(inside) == "unreadable_file"


def test_scenario_27_a_link_within_the_folder_is_met_once(exam, tmp_path):
    exam.write(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    np.testing.assert_array_equal(read_study(tmp_path).phases, exam.volume)


def test_scenario_27_a_file_that_is_not_deflated_as_it_says_is_refused(exam, tmp_path):
    exam.write(tmp_path)
    data = (tmp_path / "3").read_bytes()
    syntax = b"1.2.840.10008.1.2.1\0"
    assert syntax in data
    (tmp_path / "3").write_bytes(data.replace(b"\x14\0" + syntax, b"\x16\0" + syntax[:-1] + b".99"))
    assert reason(tmp_path) == "unreadable_file"


def test_scenario_27_a_header_that_claims_a_huge_image_is_refused(exam, tmp_path):
    slices = exam.datasets()
    slices[3].Rows = slices[3].Columns = 65_000
    assert reason(exam.write(tmp_path, slices)) == "unreadable_file"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
def test_compressed_slices_read_alike(exam, tmp_path, syntax):
    slices = exam.datasets()
    for ds in slices:
        if syntax == DeflatedExplicitVRLittleEndian:
            ds.file_meta.TransferSyntaxUID = syntax
        else:
            ds.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, slices)).phases, exam.volume)


def test_files_of_two_patients_or_two_exams_are_refused(exam, tmp_path):
    exam.write(tmp_path / "a", exam.datasets()[:6])
    exam.exam = "2"
    exam.write(tmp_path / "b", exam.datasets()[6:])
    assert reason(tmp_path) == "several_studies"
    exam.patient_id = "PATIENT-2"
    exam.write(tmp_path / "b", exam.datasets()[6:])
    assert reason(tmp_path) == "several_patients"


def test_other_objects_among_the_images_are_left_out(exam, tmp_path):
    other = exam.datasets()[0]
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"  # presentation state
    other.Modality, other.SOPInstanceUID, other.PatientID = "PR", "1.2.3.77", "ANOTHER"
    np.testing.assert_array_equal(read_study(exam.write(tmp_path, [*exam.datasets(), other])).phases, exam.volume)


def test_a_folder_without_mr_images_is_refused(exam, tmp_path):
    assert reason(tmp_path / "absent") == "no_images"
    assert reason(tmp_path) == "no_images"


def test_reading_changes_nothing_on_disk(exam, tmp_path):
    exam.write(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*")}
    read_study(tmp_path)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*")}


def test_two_neighbouring_slices_too_far_apart_by_more_than_a_tenth(exam, tmp_path):
    for shift, sound in ((0.15, True), (0.5, False)):
        slices = exam.datasets()
        for ds in itertools.chain(slices[3:6], slices[9:12], slices[15:18]):
            x, y, z = ds.ImagePositionPatient
            ds.ImagePositionPatient = [x, y, z + shift]
        folder = exam.write(tmp_path / str(shift), slices)
        assert sound or reason(folder) == "missing_slices"
        assert not sound or read_study(folder).phases.shape == exam.volume.shape


def _bytes(ds):
    stream = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()
