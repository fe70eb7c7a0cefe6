"""CMMD: a made download with real DICOM, and the published counts on the real table where it is there."""

import csv
from collections import Counter

import pytest

from shared.cohort.importers import importer_named
from shared.cohort.importers.site_folders import import_dataset
from shared.cohort.labels import MALIGNANT, SUBTYPE
from shared.cohort.manifest import read_manifest_with_flags
from shared.errors import SiteError, StudyError, TableError
from shared.modalities.mammography.views import read_views
from tests.shared.cohort.importers.conftest import cases_of, write_sheet
from tests.shared.cohort.importers.downloads import CMMD_HEADER, CMMD_TABLE, write_cmmd

CMMD = importer_named("cmmd")
ROWS = [
    ["D1-0001", "R", 44, 2, "mass", "Benign", ""],
    ["D1-0002", "L", 40, 2, "mass", "Malignant", ""],  # without images
    ["D2-0001", "L", 61, 2, "both", "Malignant", "HER2-enriched"],
    ["D2-0001", "R", 61, 2, "both", "Malignant", "Luminal B"],
    ["D2-0002", "L", 55, 2, "calcification", "Malignant", "triple negative"],  # its images say right
]
IMAGES = {"D1-0001": "LR", "D2-0001": "LR", "D2-0002": "R"}


@pytest.fixture
def download(tmp_path):
    return write_cmmd(tmp_path / "download", ROWS, IMAGES)


def test_both_cohorts_become_centres_whose_cases_are_read(download, tmp_path):
    imported = import_dataset(CMMD, download, tmp_path / "sites")
    assert imported.cases == {"cmmd-d1": 1, "cmmd-d2": 3}
    assert imported.left_out == {"no images were downloaded": 1}
    cases, left_out = cases_of(tmp_path / "sites" / "cmmd-d1")
    assert (list(cases), left_out) == ([("D1-0001", "right")], [])
    views = read_views(cases["D1-0001", "right"])
    assert {image.side for image in views.images.values()} == {"right"}
    assert (set(views.images), views.left_out) == ({"CC", "MLO"}, {"other_breast": 2})
    cases, _ = cases_of(tmp_path / "sites" / "cmmd-d2")
    for side in ("left", "right"):
        assert {image.side for image in read_views(cases["D2-0001", side]).images.values()} == {side}


def test_a_side_that_contradicts_the_images_is_left_out_by_name(download, tmp_path):
    import_dataset(CMMD, download, tmp_path / "sites")
    cases, _ = cases_of(tmp_path / "sites" / "cmmd-d2")
    with pytest.raises(StudyError) as caught:
        read_views(cases["D2-0002", "left"])
    assert caught.value.reason == "laterality_conflict"


def test_labels_are_the_tables_and_d1_has_malignancy_alone(download, tmp_path):
    import_dataset(CMMD, download, tmp_path / "sites")
    rows = {}
    for site in ("cmmd-d1", "cmmd-d2"):
        rows |= {key: case.row for key, case in cases_of(tmp_path / "sites" / site)[0].items()}
    assert {key: (row.malignant, row.subtype, row.age) for key, row in rows.items()} == {
        ("D1-0001", "right"): (False, None, 44.0),
        ("D2-0001", "left"): (True, "her2_enriched", 61.0),
        ("D2-0001", "right"): (True, "luminal_b", 61.0),
        ("D2-0002", "left"): (True, "triple_negative", 55.0),
    }
    assert SUBTYPE.counted_as(rows["D1-0001", "right"].labels) == "subtype/missing"
    assert {row.modality for row in rows.values()} == {"MG"}


def test_another_folder_or_table_is_refused(download, tmp_path):
    (download / "manifest-1616439774456").rename(download / "images")
    with pytest.raises(SiteError, match="lacks the folder CMMD"):
        import_dataset(CMMD, download, tmp_path / "sites")
    (download / "images").rename(download / "manifest-1")
    write_sheet(download / CMMD_TABLE, [CMMD_HEADER[:-1], ROWS[0][:-1]])
    with pytest.raises(TableError, match=r"row 1.*subtype.*required but missing"):
        import_dataset(CMMD, download, tmp_path / "sites")
    write_sheet(download / CMMD_TABLE, [CMMD_HEADER, ["D3-0001", *ROWS[0][1:]]])
    with pytest.raises(TableError, match="no patient of D1 or D2") as caught:
        import_dataset(CMMD, download, tmp_path / "sites")
    assert "D3-0001" not in str(caught.value)


def test_the_published_counts_on_the_real_table(real_data, tmp_path):
    source = real_data / "clinical_cmmd"
    if not (source / CMMD_TABLE).is_file():
        pytest.skip(f"the real table of CMMD is not at {source}")
    root = tmp_path / "download"
    with (source / "metadata.csv").open(newline="", encoding="utf-8-sig") as stream:
        for line in csv.DictReader(stream):
            (root / line["File Location"].replace("\\", "/")).mkdir(parents=True)
    (root / CMMD_TABLE).symlink_to(source / CMMD_TABLE)
    imported = import_dataset(CMMD, root, tmp_path / "sites")
    assert (imported.cases, imported.left_out) == ({"cmmd-d1": 1107, "cmmd-d2": 765}, {})
    read = {name: read_manifest_with_flags(tmp_path / "sites" / name, root) for name in imported.cases}
    assert not any(flags for _, flags in read.values())
    rows = {name: rows for name, (rows, _) in read.items()}
    assert {name: len({row.patient_id for row in own}) for name, own in rows.items()} == {
        "cmmd-d1": 1026,
        "cmmd-d2": 749,
    }
    assert Counter(MALIGNANT.counted_as(row.labels) for own in rows.values() for row in own) == {
        "malignant/positive": 1316,
        "malignant/negative": 556,
    }
    assert {row.subtype for row in rows["cmmd-d1"]} == {None}
    assert Counter(row.subtype for row in rows["cmmd-d2"]) == {
        "luminal_a": 152,
        "luminal_b": 376,
        "her2_enriched": 135,
        "triple_negative": 86,
        None: 16,
    }
