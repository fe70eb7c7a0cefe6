"""Mammograms beside the MRI on disk: rows, files, resumption, and that nothing else changes."""

import csv

import numpy as np
import pydicom
import pytest

from shared.errors import ConfigError
from shared.phantom import generate, marker
from shared.phantom.centres import CENTRES
from shared.phantom.generate import generate_federation
from shared.phantom.settings import PhantomSettings

PLAIN = PhantomSettings(cases_per_site=1, cases_external=1, seed=7)
BOTH = PhantomSettings(cases_per_site=1, cases_external=1, seed=7, mammograms=True)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The sagittal centre, whose MRI sees one breast, without and with mammograms."""
    with pytest.MonkeyPatch.context() as patch:
        for room in (generate, marker):
            patch.setattr(room, "CENTRES", {"B": CENTRES["B"]})
        made = []
        for settings in (PLAIN, BOTH):
            root = tmp_path_factory.mktemp("federation")
            generate_federation(root, settings, workers=1)
            made.append(root)
        yield made


def rows_of(root):
    return list(csv.DictReader((root / "centre-b" / "cases.csv").read_text(encoding="utf-8").splitlines()))


def test_the_mri_is_the_same_byte_for_byte(roots):
    plain, both = roots
    files = [path.relative_to(plain) for path in plain.rglob("*") if path.is_file() and path.suffix == ".dcm"]
    assert len(files) > 100
    assert all((plain / file).read_bytes() == (both / file).read_bytes() for file in files)
    assert rows_of(plain) == rows_of(both)[:1]
    assert "mammograms" not in (plain / "phantom.json").read_text()


def test_each_breast_has_a_row_and_the_healthy_one_no_lesion(roots):
    mri, *breasts = rows_of(roots[1])
    site = roots[1] / "centre-b"
    assert [row["modality"] for row in (mri, *breasts)] == ["MR", "MG", "MG"]
    assert [row["side"] for row in breasts] == ["left", "right"]
    for row in breasts:
        assert (row["patient_id"], row["exam"], row["density"]) == (mri["patient_id"], mri["exam"], mri["density"])
        assert row["manufacturer"] == "GE MEDICAL SYSTEMS"
        assert not row["breast_mask"] + row["fibroglandular_mask"] + row["field_strength_t"]
        images = [pydicom.dcmread(path) for path in (site / row["path"]).rglob("*.dcm")]
        assert {(ds.ViewPosition, ds.PresentationIntentType) for ds in images} == {
            (view, intent) for view in ("CC", "MLO") for intent in ("FOR PRESENTATION", "FOR PROCESSING")
        }
        assert {ds.ImageLaterality for ds in images} == {row["side"][0].upper()}
        assert {ds.PatientID for ds in images} == {row["patient_id"]}
        index = row["side"] == mri["side"]
        assert row["malignant"] == ("1" if index else "0")
        assert (row["subtype"], row["er"]) == ((mri["subtype"], mri["er"]) if index else ("", ""))
        assert bool(row["mask"]) == index
        if index:
            for ds in images:
                mask = pydicom.dcmread(site / row["mask"] / f"{ds.ViewPosition}.dcm").pixel_array
                assert mask.shape == ds.pixel_array.shape
                assert 20 < np.count_nonzero(mask) < 0.5 * mask.size
    assert (site / "preview-mammograms.png").stat().st_size > 10_000


def test_a_patient_whose_mammograms_are_missing_is_made_again(roots):
    site = roots[1] / "centre-b"
    breast = rows_of(roots[1])[1]
    assert generate._complete_rows(roots[1], "B", 0, BOTH) == rows_of(roots[1])
    moved = site / "elsewhere"
    (site / breast["path"]).rename(moved)
    assert generate._complete_rows(roots[1], "B", 0, BOTH) is None
    moved.rename(site / breast["path"])


def test_a_folder_without_mammograms_is_not_mixed_with_one_with(roots):
    with pytest.raises(ConfigError, match="mammograms False there, True wanted"):
        generate_federation(roots[0], BOTH, workers=1)
    with pytest.raises(ConfigError, match="mammograms True there, False wanted"):
        generate_federation(roots[1], PLAIN, workers=1)
