import logging

import numpy as np
import pytest

from shared.cohort.preflight import Exclusion
from shared.modalities.mri import cache as cache_module
from shared.modalities.mri.fingerprint import SiteFingerprint, fingerprint_region, make_plan
from shared.modalities.mri.mri import MODALITY
from shared.modalities.mri.plan import Extraction
from shared.modalities.mri.region import extract_region
from shared.modalities.mri.study import read_case
from tests.mri_cases import mri_cohort

LESION = frozenset({"lesion"})


@pytest.fixture
def site(make_site):
    """Three sound cases; between them one with no breast on its side and one whose first phase is no image."""
    folder = make_site(
        {"side": "left"},
        {"side": "right", "missing": ("right",)},
        {"side": "right", "spacing": (4.0, 3.0, 3.5)},
        {"side": "left"},
        {"side": "left", "bilateral": False, "lesion_at": (8.0, 24.0, 70.0)},
    )
    (folder / "study3" / "s_0000.nii.gz").write_bytes(b"no image")
    return folder


def test_bad_studies_are_counted_and_the_rest_goes_on(site, tmp_path, config, caplog):
    cohort, cache = mri_cohort(site), tmp_path / "cache"
    steps = []
    with caplog.at_level(logging.INFO):
        merged, excluded = MODALITY.fingerprint_cases(
            cohort.cases, config, cache, on_progress=lambda done, total: steps.append((done, total))
        )
    assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert excluded == [Exclusion(3, "no_breast_found"), Exclusion(5, "unreadable_file")]
    sound = [cohort.cases[index] for index in (0, 2, 4)]
    expected = SiteFingerprint.empty(3)
    for case in sound:
        study = read_case(case)
        region = extract_region(study, case.load_mask(study.grid), case.row.side, Extraction.of(config.preprocessing))
        expected = expected + fingerprint_region(region)
    assert merged == expected
    plan = make_plan(merged, config)
    prepared, left_out = MODALITY.prepare_cases(cohort.cases, plan, LESION, cache)
    assert left_out == excluded
    assert [case.key for case in prepared] == [case.key for case in sound]
    assert all(case.image.shape == (4, *plan.crop_voxels) for case in prepared)
    # The log names cases by pseudonym and tells the seconds; never a patient or a path.
    assert sum("extracted in" in record.message for record in caplog.records) == 3
    for record in caplog.records:
        assert not any(f"P{number}" in record.getMessage() for number in range(5))
        assert "study" not in record.getMessage().replace("a study", "")


def test_a_study_is_read_once_for_fingerprint_and_plan(site, tmp_path, config, monkeypatch):
    cohort, cache = mri_cohort(site), tmp_path / "cache"
    merged, _ = MODALITY.fingerprint_cases(cohort.cases[:1], config, cache)
    monkeypatch.setattr(cache_module, "extract_region", lambda *_: pytest.fail("extracted twice"))
    prepared, excluded = MODALITY.prepare_cases(cohort.cases[:1], make_plan(merged, config), LESION, cache)
    assert (len(prepared), excluded) == (1, [])


def test_a_fault_of_our_own_is_an_exclusion_without_its_words(site, tmp_path, config, monkeypatch, caplog):
    cohort = mri_cohort(site)

    def broken(*_):
        raise ZeroDivisionError("secret of the patient")

    monkeypatch.setattr(cache_module, "extract_region", broken)
    _, excluded = MODALITY.fingerprint_cases(cohort.cases[:1], config, tmp_path / "cache")
    assert excluded == [Exclusion(2, "preprocessing_failed")]
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


def test_two_workers_do_what_one_does(site, tmp_path, config, caplog):
    cohort = mri_cohort(site)
    alone, excluded = MODALITY.fingerprint_cases(cohort.cases, config, tmp_path / "one")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        together, also = MODALITY.fingerprint_cases(cohort.cases, config, tmp_path / "two", workers=2)
    assert together == alone
    assert also == excluded
    assert sum("extracted in" in record.message for record in caplog.records) == 3  # told by the workers
    plan = make_plan(alone, config)
    first, _ = MODALITY.prepare_cases(cohort.cases, plan, LESION, tmp_path / "one")
    second, _ = MODALITY.prepare_cases(cohort.cases, plan, LESION, tmp_path / "two", workers=2)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours.image, theirs.image)
