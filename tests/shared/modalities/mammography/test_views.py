"""Which files of a row are its views: what is left out has a name and is counted, and the rest goes on."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import BreastTomosynthesisImageStorage, DigitalMammographyXRayImageStorageForProcessing

from shared.cohort.manifest import read_manifest
from shared.cohort.preflight import Case, locate_exams
from shared.cohort.site_folder import open_site_folder
from shared.errors import EXCLUSION_REASONS, StudyError
from shared.modalities.mammography.tags import is_mammogram
from shared.modalities.mammography.views import choose_views, image_files, lies_at, read_views
from tests.shared.modalities.mammography.conftest import Mammogram, drawing, exposed, film, shown

RAW = DigitalMammographyXRayImageStorageForProcessing
FULL = {"WindowCenter": 2048, "WindowWidth": 4096}


def view(side="L", name="CC", **tags):
    return Mammogram(shown(drawing(name)[0], side), side, name, tags={**FULL, **tags})


@pytest.fixture
def folder(tmp_path):
    """Writes mammograms into a folder, in this order; returns it."""

    def write(*items, name="exam"):
        target = tmp_path / name
        target.mkdir(exist_ok=True)
        for number, item in enumerate(items):
            item.write(target / f"{number}.dcm")
        return target

    return write


def choose(folder, side="left"):
    return choose_views(sorted(folder.iterdir()), side)


def refused(folder, side="left"):
    with pytest.raises(StudyError) as caught:
        choose(folder, side)
    assert "SECRET" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_folder_of_both_breasts_gives_the_two_views_of_the_rows_side(folder, side):
    exam = folder(*(view(letter, name) for letter in "LR" for name in ("CC", "MLO")))
    views = choose(exam, {"L": "left", "R": "right"}[side])
    assert set(views.images) == {"CC", "MLO"}
    assert {image.side[0].upper() for image in views.images.values()} == {side}
    assert views.left_out == {"other_breast": 2}
    assert not views.chosen


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (view(name="MLO", ImageLaterality=""), "no_laterality"),
        (view(name="ML"), "other_view"),
        (view(name="MLO", ViewPosition="CC"), "no_view"),
        (view(name="MLO", EstimatedRadiographicMagnificationFactor="1.8"), "magnified_view"),
        (view(name="MLO", PaddleDescription="SPOT"), "spot_view"),
        (view(name="MLO", ViewPosition="MLOID"), "implant_displaced"),
        (view(name="MLO", NumberOfFrames=30), "tomosynthesis"),
        (view(name="MLO", SOPClassUID=BreastTomosynthesisImageStorage), "tomosynthesis"),
        (view(name="MLO", ImageType=["DERIVED", "PRIMARY", "SUBTRACTION"]), "contrast_view"),
        (replace(view(name="MLO"), stored=np.zeros((240, 180), np.uint16)), "blank_image"),
        (replace(view(name="MLO"), stored=np.tile(np.arange(180, dtype=np.uint16), (240, 1))), "unclear_background"),
        (view(name="MLO", ImagerPixelSpacing=[0.0, 0.0]), "no_pixel_spacing"),
    ],
)
def test_a_bad_view_is_left_out_by_name_and_the_other_goes_on(folder, bad, reason):
    assert reason in EXCLUSION_REASONS
    views = choose(folder(view(), bad))
    assert set(views.images) == {"CC"}
    assert views.left_out == {reason: 1}
    assert refused(folder(bad, name="alone")) == reason


@pytest.mark.parametrize("syntax", ["rle", "jpeg-ls", "jpeg-2000", "jpeg-lossless"])
def test_a_truncated_compressed_view_is_left_out(folder, syntax):
    exam = folder(view())
    replace(view(name="MLO"), bits=16).write(exam / "cut.dcm", syntax, cut=2000)
    (exam / "notes.txt").write_text("no image")
    views = choose(exam)
    assert (set(views.images), views.left_out) == ({"CC"}, {"unreadable_file": 1})
    (exam / "0.dcm").unlink()
    assert refused(exam) == "unreadable_file"


def test_an_empty_file_named_dicom_is_counted(folder):
    exam = folder(view())
    (exam / "empty.dcm").write_bytes(b"")
    assert choose(exam).left_out == {"unreadable_file": 1}


def test_images_that_are_all_of_the_other_breast_contradict_the_table(folder):
    assert refused(folder(view("R"), view("R", "MLO"))) == "laterality_conflict"


def test_a_folder_without_mammograms_has_no_images(folder):
    assert refused(folder(view(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"))) == "no_images"


def test_files_of_two_patients_or_exams_are_refused(folder):
    assert refused(folder(view(), view(name="MLO", PatientID="OTHER"))) == "several_patients"
    assert refused(folder(view(), view(name="MLO", StudyInstanceUID="9.9"), name="b")) == "several_studies"


def test_a_copy_is_one_image_and_another_image_of_the_same_uid_is_refused(folder):
    exam = folder(view(SOPInstanceUID="1.1"))
    shutil.copy(exam / "0.dcm", exam / "copy.dcm")
    views = choose(exam)
    assert (set(views.images), views.left_out, views.chosen) == ({"CC"}, {}, {})
    assert refused(folder(view(SOPInstanceUID="1.1"), view(SOPInstanceUID="1.1", InstanceNumber=2), name="b")) == (
        "duplicate_slices"
    )


# Of each pair the second is taken; the image's width tells which it was.
@pytest.mark.parametrize(
    ("other", "taken", "why"),
    [
        ({"AcquisitionTime": "101500"}, {"AcquisitionTime": "101700"}, "for presentation, the latest"),
        ({"ContentTime": "101500"}, {"ContentTime": "101500.5"}, "for presentation, the latest"),
        ({"InstanceNumber": 1}, {"InstanceNumber": 2}, "for presentation, the last by number"),
        ({"PartialView": "YES", "AcquisitionTime": "12"}, {"AcquisitionTime": "11"}, "for presentation"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"], "AcquisitionTime": "12"},
            {"AcquisitionTime": "11"},
            "for presentation",
        ),
        ({"PresentationIntentType": "FOR PROCESSING", "AcquisitionTime": "12"}, {}, "for presentation"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_images_of_a_view_the_one_that_is_taken_is_stated(folder, other, taken, why, turned):
    first, second = view(**other), replace(view(**taken), stored=shown(drawing(columns=186)[0]))
    views = choose(folder(*((second, first) if turned else (first, second))))
    assert views.images["CC"].pixels.shape == (240, 186)
    assert views.chosen == {"CC": f"one of 2 images, {why}"}
    assert views.left_out == {"further_image": 1}


def test_a_better_image_that_cannot_be_read_gives_way_and_both_are_told(folder):
    raw = Mammogram(exposed(drawing()[0]), sop_class=RAW)
    views = choose(folder(raw, replace(view(), stored=np.zeros((240, 180), np.uint16))))
    assert views.images["CC"].intent == "processing"
    assert views.chosen == {"CC": "one of 2 images, the first 1 cannot be read, for processing"}
    assert views.left_out == {"blank_image": 1}


def test_a_film_of_cbis_ddsm_has_a_folder_a_view_beside_its_masks(tmp_path):
    for name in ("CC", "MLO"):
        for folder, title in (("", "full mammogram images"), ("_1", "ROI mask images")):
            place = tmp_path / f"Mass-Test_P_00001_LEFT_{name}{folder}" / "1.2.3"
            place.mkdir(parents=True)
            film(drawing(name)[0], "L", name, SeriesDescription=title, StudyInstanceUID=f"1.{len(name)}").write(
                place / "1-1.dcm"
            )
    path = tmp_path / "Mass-Test_P_00001_LEFT"
    assert lies_at(path)
    assert not lies_at(tmp_path / "Mass-Test_P_00001_RIGHT")
    files = image_files(Case("key", "mammography", None, tmp_path, path))
    assert len(files) == 2
    views = choose_views(files, "left")
    assert (set(views.images), views.left_out) == ({"CC", "MLO"}, {})
    assert choose_views(sorted(tmp_path.rglob("*.dcm")), "left").left_out == {}


def test_a_site_goes_on_without_its_bad_rows_and_counts_them(tmp_path):
    cut = replace(view(PatientID="P3"), bits=16)
    exams = {
        "P1": [view(PatientID="P1"), view("R", PatientID="P1"), view(name="MLO", PatientID="P1")],
        "P2": [view("R", PatientID="P2")],
        "P3": [],
        "P4": [view(PatientID="P4", ImageLaterality="")],
        "P5": [view(name="XCCL", PatientID="P5")],
        "P6": [replace(view(PatientID="P6"), stored=np.zeros((240, 180), np.uint16))],
        "P7": [view(PatientID="P7", NumberOfFrames=9)],
        "P8": [view(PatientID="P8", PhotometricInterpretation="MONOCHROME1")],
    }
    for patient, items in exams.items():
        (tmp_path / patient).mkdir()
        for number, item in enumerate(items):
            item.write(tmp_path / patient / f"{number}.dcm")
    cut.write(tmp_path / "P3" / "0.dcm", "jpeg-2000", cut=2000)
    (tmp_path / "site.toml").write_text(f'[site]\nname = "north"\npseudonym_key = "{"ab" * 16}"\n')
    rows = [
        "patient_id,side,modality,path",
        *(f"{patient},left,MG,{patient if patient != 'P1' else ''}" for patient in exams),
    ]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    site = open_site_folder(tmp_path)
    cases, left_out = locate_exams(
        site,
        read_manifest(tmp_path),
        frozenset(),
        modality="mammography",
        is_image=is_mammogram,
        lies_at=lies_at,
    )
    assert not left_out
    counts, kept = Counter(), {}
    for case in cases:
        try:
            kept[case.row.patient_id] = read_views(case)
        except StudyError as error:
            counts[error.reason] += 1
    assert set(kept) == {"P1", "P8"}
    assert set(kept["P1"].images) == {"CC", "MLO"}
    assert "its tags on inversion are wrong, as its background shows" in kept["P8"].images["CC"].steps
    assert counts == dict.fromkeys(
        ("laterality_conflict", "unreadable_file", "no_laterality", "other_view", "blank_image", "tomosynthesis"), 1
    )
