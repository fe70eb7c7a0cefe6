"""MRI behind the contract of modalities: rows to cases, their check, their pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest

from shared.cohort.manifest import read_manifest
from shared.cohort.site_folder import open_site_folder
from shared.modalities.checked_case import CheckedCase
from shared.modalities.mri.fingerprint import SiteFingerprint
from shared.modalities.mri.mri import MODALITY, background, check, locate
from tests.mri_cases import mri_cohort


@pytest.fixture
def case(make_site):
    return mri_cohort(make_site({})).cases[0]


def test_rows_of_other_modalities_are_left_to_them(make_site):
    folder = make_site({}, {"side": "right"})
    table = (folder / "cases.csv").read_text().splitlines()
    table[0] += ",modality"
    table[1] += ",MR"
    table[2] += ",mammogram"
    (folder / "cases.csv").write_text("\n".join(table) + "\n")
    site = open_site_folder(folder)
    cases, exclusions = locate(site, read_manifest(folder), frozenset())
    assert [(case.row.row, case.modality) for case in cases] == [(2, "mri")]
    assert exclusions == []


def test_a_sound_case_passes_its_check_which_tells_what_was_seen(case, make_study):
    check(case, seen := CheckedCase())
    study, mask = make_study()
    assert (seen.reason, seen.tissue_fault) == (None, None)
    assert seen.facts["voxels"] == study.grid.shape
    assert seen.facts["lesion_ml"] == pytest.approx(mask.sum() * study.grid.voxel_volume_ml, abs=1e-3)
    assert len(seen.panels) == 3


def test_times_that_nothing_tells_are_told_as_guessed(case):
    untimed = replace(case, row=case.row.model_copy(update={"acquisition_times_s": None}))
    check(untimed, seen := CheckedCase())
    check(case, told := CheckedCase())
    assert ["60 s apart" in note for note in seen.notes] == [True]
    assert told.notes == []


def test_a_picture_shows_the_image_before_contrast_and_its_first_uptake(case, make_study):
    study, _ = make_study()
    picture = background(case)
    assert list(picture.images) == ["pre-contrast", "uptake"]
    np.testing.assert_allclose(picture.images["pre-contrast"], study.phases[0], rtol=1e-6)
    np.testing.assert_allclose(picture.images["uptake"], study.phases[1] - study.phases[0], atol=1e-3)
    assert picture.spacing == pytest.approx(study.grid.spacing)


def test_extraction_and_fingerprint_go_together(case, config, tmp_path):
    region = MODALITY.extract(case, config, tmp_path / "cache")
    fingerprint = MODALITY.fingerprint(region)
    assert fingerprint.n == 1
    assert MODALITY.no_cases(config) + fingerprint == fingerprint
    assert MODALITY.read_fingerprint(fingerprint.to_dict(), config) == fingerprint


def test_a_fingerprint_of_other_channels_than_the_runs_is_refused(config):
    with pytest.raises(ValueError, match="whole numbers"):
        MODALITY.read_fingerprint(SiteFingerprint.empty(config.preprocessing.post_phases + 1).to_dict(), config)


def test_a_prepared_case_is_opened_again_from_plain_values(case, config, tmp_path):
    plan = MODALITY.make_plan(MODALITY.fingerprint(MODALITY.extract(case, config, tmp_path)), config)
    prepared = MODALITY.prepare(case, plan, frozenset({"lesion"}), tmp_path)
    again = MODALITY.open(prepared.to_dict())
    assert (again.key, again.labels) == (case.key, case.row.labels)
    np.testing.assert_array_equal(again.image, prepared.image)
    record = prepared.to_dict()
    assert MODALITY.open(json.loads(json.dumps(record))) == prepared
    less = {name: value for name, value in record.items() if name != "tissue_folder"}
    more = [record | {part: record[part] | {"new": 1}} for part in ("labels", "place")]
    for other in (less, *more, record | {"new": 1}, record | {"side": "both"}):
        with pytest.raises(ValueError, match=r"record|PreparedMri"):
            MODALITY.open(other)
