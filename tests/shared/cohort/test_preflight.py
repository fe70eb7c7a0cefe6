"""A cohort opens whatever single studies are like; every row is a case or a counted exclusion."""

import logging
import shutil
import traceback

import numpy as np
import pytest
import SimpleITK as sitk

from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, Exclusion
from shared.errors import StudyError, TableError
from shared.modalities.mri.study import image_files, read_case
from tests.images import to_image
from tests.mri_cases import mri_cohort

HEADER = "patient_id,exam,side,path,mask"


def test_rows_become_cases_that_load(site):
    exams = [site.patient(f"P{number}", number, f"dicom/p{number}") for number in (1, 2)]
    mask = site.mask("masks/m.nii.gz")
    cohort = mri_cohort(
        site.table(HEADER, "P1,,left,dicom/p1,masks/m.nii.gz", "P2,,right,dicom/p2,masks/m.nii.gz"), needs_mask=True
    )
    assert cohort.exclusions == ()
    assert len({case.key for case in cohort.cases}) == 2
    for case, exam in zip(cohort.cases, exams, strict=True):
        study = read_case(case)
        np.testing.assert_array_equal(study.phases, exam.volume)
        np.testing.assert_array_equal(case.load_mask(study.grid), mask)
    assert len(image_files(cohort.cases[0])) == 18
    assert cohort.cases[0].mask_path() == site.path / "masks" / "m.nii.gz"


def test_one_bad_study_stops_nothing_and_is_counted(site):
    site.patient("P1", 1, "dicom/p1")
    site.mask("m.nii.gz")
    cohort = mri_cohort(
        site.table(HEADER, "P0,,left,dicom/absent,m.nii.gz", "P1,,left,dicom/p1,m.nii.gz", "P2,,left,dicom/p1,")
    )
    assert [case.row.row for case in cohort.cases] == [3]
    assert cohort.exclusions == (Exclusion(2, "no_images"), Exclusion(4, "no_mask"))
    assert len(mri_cohort(site.path, needs_mask=False).cases) == 2


def test_a_mask_whose_file_is_absent_is_an_exclusion(site):
    site.patient("P1", 1, "dicom/p1")
    cohort = mri_cohort(site.table(HEADER, "P1,,left,dicom/p1,gone.nii.gz"))
    assert cohort.exclusions == (Exclusion(2, "no_mask"),)


def test_what_shows_only_in_the_images_is_raised_on_loading(site):
    site.patient("P1", 1, "dicom/p1")
    (site.path / "dicom/p1/broken.dcm").write_bytes(b"")
    (case,) = mri_cohort(site.table(HEADER, "P1,,left,dicom/p1,"), needs_mask=False).cases
    with pytest.raises(StudyError) as caught:
        read_case(case)
    assert caught.value.reason == "unreadable_file"
    with pytest.raises(StudyError) as caught:
        case.load_mask(site.exam.grid)
    assert caught.value.reason == "no_mask"


@pytest.mark.parametrize("day", ["20210203", "2021-02-03", "03.02.2021", "3 Feb 2021", "2021-02-03 00:00:00", "44230"])
def test_the_day_of_an_exam_is_found_as_spreadsheets_and_people_write_it(site, day):
    site.patient("P1", 1, "dicom/1")
    assert len(mri_cohort(site.table(HEADER, f"P1,{day},left,,"), needs_mask=False).cases) == 1
    other = mri_cohort(site.table(HEADER, "P1,2021-02-04,left,,"), needs_mask=False)
    assert other.exclusions == (Exclusion(2, "no_images"),)


def test_without_a_path_studies_are_found_by_their_tags(site):
    mixed = "archive/2021"
    exams = {}
    for number, patient in enumerate(("P1", "P2", "P1"), start=1):
        exams[number] = site.patient(patient, number, f"{mixed}/{number}")
    rows = ["P1,ACC1,left,,", "P1,1.2.3.3,left,,", "P2,20210203,left,,", "P9,,left,,", "P1,,right,,"]
    cohort = mri_cohort(site.table(HEADER, *rows), needs_mask=False)
    assert cohort.exclusions == (Exclusion(5, "no_images"), Exclusion(6, "several_studies"))
    for case, number in zip(cohort.cases, (1, 3, 2), strict=True):
        np.testing.assert_array_equal(read_case(case).phases, exams[number].volume)
        assert len(image_files(case)) == 18


def test_found_by_tags_an_unreadable_file_counts_against_its_folders_study(site):
    for number in (1, 2):
        site.patient(f"P{number}", number, f"dicom/{number}")
    (site.path / "dicom/2/cut.dcm").write_bytes(b"<html>")
    cohort = mri_cohort(site.table(HEADER, "P1,,left,,", "P2,,left,,"), needs_mask=False)
    assert [case.row.patient_id for case in cohort.cases] == ["P1"]
    assert cohort.exclusions == (Exclusion(3, "unreadable_file"),)


def test_scenario_25_the_rows_side_is_compared_with_the_images(site):
    site.exam.tags = {"Laterality": "R"}
    site.patient("P1", 1, "dicom/p1")
    for side, sound in (("right", True), ("left", False)):
        (case,) = mri_cohort(site.table(HEADER, f"P1,,{side},dicom/p1,"), needs_mask=False).cases
        if sound:
            assert read_case(case).phases.shape == site.exam.volume.shape
        else:
            with pytest.raises(StudyError) as caught:
                read_case(case)
            assert caught.value.reason == "laterality_conflict"


def test_nifti_exams_take_their_times_from_the_table(site):
    (site.path / "nifti").mkdir()
    for phase, volume in enumerate(site.exam.volume):
        image = to_image(volume.astype(np.float32), site.exam.grid)
        sitk.WriteImage(image, str(site.path / f"nifti/P1_{phase:04d}.nii.gz"))
    (case,) = mri_cohort(
        site.table("patient_id,side,path,acquisition_times", 'P1,left,nifti/P1,"0, 95, 190"'), needs_mask=False
    ).cases
    assert read_case(case).times_s == (0.0, 95.0, 190.0)
    assert [path.name for path in image_files(case)] == [f"P1_{phase:04d}.nii.gz" for phase in range(3)]


def test_mammograms_are_not_mr_cases(site):
    site.patient("P1", 1, "dicom/p1")
    cohort = mri_cohort(
        site.table("patient_id,side,modality,path", "P1,left,MR,dicom/p1", "P1,left,MG,dicom/p1"), needs_mask=False
    )
    assert len(cohort.cases) == 1
    assert cohort.exclusions == ()


def test_a_fault_of_the_table_stops_the_opening(site):
    with pytest.raises(TableError, match=r"cases\.csv, row 2, column 'side'"):
        mri_cohort(site.table(HEADER, "P1,,up,dicom/p1,"))


def test_the_site_folder_is_only_read(site):
    site.patient("P1", 1, "dicom/p1")
    site.mask("m.nii.gz")
    site.table(HEADER, "P1,,left,dicom/p1,m.nii.gz")
    before = {path: path.stat().st_mtime_ns for path in site.path.rglob("*")}
    (case,) = mri_cohort(site.path).cases
    case.load_mask(read_case(case).grid)
    assert {path: path.stat().st_mtime_ns for path in site.path.rglob("*")} == before


def test_scenario_26_nothing_of_a_cohort_names_a_patient(site, caplog):
    caplog.set_level(logging.DEBUG)
    site.patient("SECRET4711", 1, "dicom/SECRET4711")
    shutil.copytree(site.path / "dicom/SECRET4711", site.path / "dicom/SECRET4712")
    (site.path / "dicom/SECRET4712/SECRET.dcm").write_bytes(b"SECRET")
    (site.path / "SECRET4711.nii.gz").write_bytes(b"SECRET")
    cohort = mri_cohort(
        site.table(
            HEADER,
            "SECRET4711,,left,dicom/SECRET4711,SECRET4711.nii.gz",
            "SECRET4712,,left,dicom/SECRET4712,SECRET4711.nii.gz",
            "SECRET4713,,left,dicom/SECRET4713,",
        )
    )
    shown = [repr(cohort), caplog.text]
    for action in (lambda: cohort.cases[0].load_mask(site.exam.grid), lambda: read_case(cohort.cases[1])):
        with pytest.raises(StudyError) as caught:
            action()
        shown += [str(caught.value), "".join(traceback.format_exception(caught.value))]
    assert cohort.exclusions == (Exclusion(4, "no_images"),)
    assert not any("SECRET" in text for text in shown)


@pytest.mark.parametrize(
    ("cell", "files"),
    [
        ("masks/one.dcm", ["masks/one.dcm"]),
        ("masks/one.dcm#2", ["masks/one.dcm"]),
        ("masks/breast", ["masks/breast/CC.dcm", "masks/breast/MLO.dcm"]),
        ("masks/M_{view}_1", ["masks/M_CC_1/deep/a.dcm", "masks/M_CC_1/deep/b.dcm", "masks/M_MLO_1"]),
        ("masks/absent.dcm", []),
        ("", []),
    ],
)
def test_the_files_that_a_cell_of_a_mask_stands_for(tmp_path, cell, files):
    there = ("one.dcm", "breast/CC.dcm", "breast/MLO.dcm", "M_CC_1/deep/a.dcm", "M_CC_1/deep/b.dcm", "M_MLO_1")
    for name in there:
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    row = CaseRow(row=2, patient_id="p", exam="", side="left", modality="MG", path="", mask=cell)
    found = Case("k", "mammography", row, tmp_path, None).mask_files()
    assert [path.resolve() for path in found] == [(tmp_path / name).resolve() for name in files]
