"""CBIS-DDSM: made tables and films as it has them, and the published counts on the real tables where they are there."""

import csv
from collections import Counter

import numpy as np
import pytest

from shared.cohort.importers import importer_named
from shared.cohort.importers.cbis_ddsm import _TABLES
from shared.cohort.importers.site_folders import import_dataset
from shared.cohort.manifest import read_manifest_with_flags
from shared.errors import SiteError, StudyError, TableError
from shared.modalities.mammography.roi import read_roi, roi_files
from shared.modalities.mammography.views import read_views
from tests.shared.cohort.importers.conftest import cases_of
from tests.shared.cohort.importers.downloads import cbis_region, write_cbis, write_cbis_tables
from tests.shared.modalities.mammography.conftest import drawing, film

CBIS = importer_named("cbis-ddsm")
# Table, patient, density, side, view, number, pathology.
LINES = [
    ("mass_train", "P_00001", "3", "LEFT", "CC", "1", "MALIGNANT"),
    ("mass_train", "P_00001", "3", "LEFT", "CC", "2", "BENIGN"),
    ("mass_train", "P_00001", "3", "LEFT", "MLO", "1", "MALIGNANT"),
    ("mass_train", "P_00002", "2", "RIGHT", "CC", "1", "BENIGN"),
    ("calc_test", "P_00002", "2", "RIGHT", "CC", "1", "MALIGNANT"),
    ("calc_test", "P_00002", "2", "RIGHT", "MLO", "1", "MALIGNANT"),
    ("calc_train", "P_00003", "0", "LEFT", "MLO", "1", "BENIGN_WITHOUT_CALLBACK"),  # without images
    ("calc_train", "P_00004", "0", "LEFT", "CC", "1", "BENIGN"),
    ("calc_train", "P_00004", "0", "LEFT", "MLO", "1", "BENIGN"),
    ("calc_train", "P_00004", "0", "LEFT", "CC", "2", "MALIGNANT"),
    ("mass_test", "P_00005", "4", "RIGHT", "CC", "1", "BENIGN_WITHOUT_CALLBACK"),
    ("mass_test", "P_00005", "4", "RIGHT", "CC", "2", "BENIGN"),
    ("mass_test", "P_00005", "4", "RIGHT", "MLO", "2", "BENIGN"),
]


@pytest.fixture
def download(tmp_path):
    return write_cbis(tmp_path / "download", LINES, without=("P_00003",))


@pytest.fixture
def imported(download, tmp_path):
    counts = import_dataset(CBIS, download, tmp_path / "sites")
    assert counts.cases == {"cbis-ddsm": 4}
    cases, left_out = cases_of(tmp_path / "sites" / "cbis-ddsm")
    assert not left_out
    return counts, cases


def test_a_breast_is_one_case_and_each_line_that_is_not_its_region_is_counted(imported):
    counts, cases = imported
    assert counts.left_out == {
        "a further abnormality of a breast, counted in each view": 5,
        "no images were downloaded": 1,
    }
    rows = {key: case.row for key, case in cases.items()}
    assert {key: (row.malignant, row.density, row.split) for key, row in rows.items()} == {
        ("P_00001", "left"): (True, "c", None),
        ("P_00002", "right"): (True, "b", "test"),
        ("P_00004", "left"): (True, None, None),
        ("P_00005", "right"): (False, "d", "test"),
    }
    assert {row.modality for row in rows.values()} == {"MG"}
    # Malignant before benign, in two views before one, then a mass, then the lowest number.
    assert {key[0]: row.mask.removeprefix("CBIS-DDSM/") for key, row in rows.items()} == {
        "P_00001": "Mass-Training_P_00001_LEFT_{view}_1",
        "P_00002": "Calc-Test_P_00002_RIGHT_{view}_1",
        "P_00004": "Calc-Training_P_00004_LEFT_{view}_2",
        "P_00005": "Mass-Test_P_00005_RIGHT_{view}_2",
    }


def test_films_and_their_masks_are_read_whichever_file_is_the_mask(imported):
    _, cases = imported
    seen = {}
    for (patient, side), case in cases.items():
        views = read_views(case)
        assert {image.side for image in views.images.values()} == {side}
        masks = roi_files(case, views.images)
        for view, path in masks.items():
            number = case.row.mask[-1]
            line = next(line for line in LINES if (line[1], line[4], line[5]) == (patient, view, number))
            np.testing.assert_array_equal(read_roi(path, views.images[view]), cbis_region(line) > 0)
        seen[patient] = (set(views.images), set(masks))
    both = {"CC", "MLO"}
    assert seen == {
        "P_00001": (both, both),
        "P_00002": (both, both),
        "P_00004": (both, {"CC"}),
        "P_00005": (both, both),
    }


def test_a_side_that_contradicts_the_films_is_left_out_by_name(download, tmp_path):
    for path in (download / "CBIS-DDSM").glob("Mass-Training_P_00001_LEFT_*/*/*full*/1-1.dcm"):
        film(drawing()[0], "R", path.parents[2].name[-3:].strip("_")).write(path)
    import_dataset(CBIS, download, tmp_path / "sites")
    cases, _ = cases_of(tmp_path / "sites" / "cbis-ddsm")
    with pytest.raises(StudyError) as caught:
        read_views(cases["P_00001", "left"])
    assert caught.value.reason == "laterality_conflict"


def test_among_alike_abnormalities_a_mass_and_the_lowest_number_come_first(download, tmp_path):
    alike = [("calc_train", "1"), ("mass_train", "10"), ("mass_train", "2")]
    write_cbis_tables(download, [(table, "P_00001", "3", "LEFT", "CC", number, "BENIGN") for table, number in alike])
    import_dataset(CBIS, download, tmp_path / "sites")
    rows, _ = read_manifest_with_flags(tmp_path / "sites" / "cbis-ddsm", download)
    assert [row.mask for row in rows] == ["CBIS-DDSM/Mass-Training_P_00001_LEFT_{view}_2"]


def test_another_folder_or_table_is_refused(download, tmp_path):
    write_cbis_tables(download, [(*LINES[0][:-1], "PERHAPS")])
    with pytest.raises(TableError, match=r"mass_case_description_train_set\.csv.*row 2.*pathology") as caught:
        import_dataset(CBIS, download, tmp_path / "sites")
    assert "PERHAPS" not in str(caught.value)
    (download / "calc_case_description_test_set.csv").unlink()
    with pytest.raises(SiteError, match=r"lacks calc_case_description_test_set\.csv \("):
        import_dataset(CBIS, download, tmp_path / "sites")


def test_the_published_counts_on_the_real_tables(real_data, tmp_path):
    source = real_data / "clinical_cbis_ddsm"
    if not all((source / name).is_file() for name in _TABLES):
        pytest.skip(f"the real tables of CBIS-DDSM are not at {source}")
    root = tmp_path / "download"
    root.mkdir()
    lines = []
    for name in _TABLES:
        (root / name).symlink_to(source / name)
        with (root / name).open(newline="") as stream:
            lines += list(csv.DictReader(stream))
    for line in lines:
        (root / "CBIS-DDSM" / line["image file path"].split("/")[0]).mkdir(parents=True, exist_ok=True)
    assert (len(lines), len(list((root / "CBIS-DDSM").iterdir()))) == (3568, 3103)
    counts = import_dataset(CBIS, root, tmp_path / "sites")
    rows, flags = read_manifest_with_flags(tmp_path / "sites" / "cbis-ddsm", root)
    assert (counts.cases, flags) == ({"cbis-ddsm": 1708}, ())
    assert len({row.patient_id for row in rows}) == 1566
    assert Counter(row.malignant for row in rows) == {True: 761, False: 947}
    assert len({row.patient_id for row in rows if row.split == "test"}) == 349
    folders = {line["ROI mask file path"].strip().split("/")[0] for line in lines}
    regions = {row.mask.removeprefix("CBIS-DDSM/").format(view=view) for row in rows for view in ("CC", "MLO")}
    assert sum(counts.left_out.values()) == 546 == len(lines) - len(folders & regions)
