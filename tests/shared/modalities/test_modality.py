import logging

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.cohort.preflight import Exclusion
from shared.metrics.sums import MOST_CASES
from shared.modalities.mri import cache as cache_module
from shared.modalities.mri.fingerprint import FIXED, SiteFingerprint, fingerprint_region, make_plan
from shared.modalities.mri.mri import MODALITY
from shared.modalities.mri.plan import Extraction
from shared.modalities.mri.region import extract_region
from shared.modalities.mri.study import read_case
from shared.preprocessing.histograms import SIZE_EDGES, SPACING_EDGES, VOLUME_EDGES, count
from shared.site import Site
from shared.tasks.lesion_segmentation import measure
from shared.tasks.task import OWN
from tests.mri_cases import mri_cohort, plan_by_hand

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


@pytest.mark.parametrize("external", [False, True])
def test_a_case_whose_crop_misses_the_lesion_is_left_out_in_training_alone(
    make_site, tmp_path, make_config, monkeypatch, external
):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    deep = {"lesion_at": (0.0, -58.0, 60.0)}  # in the chest, behind the box of the breast
    folder = make_site({}, deep, {"side": "right"}, {**deep, "side": "right"})
    table = (folder / "cases.csv").read_text().splitlines()
    splits = ("split", "train", "train", "validation", "validation")
    (folder / "cases.csv").write_text("\n".join(f"{row},{name}" for row, name in zip(table, splits, strict=True)))
    config = make_config()
    data = config.data.model_copy(update={"external": "site-a" if external else None})
    config = config.model_copy(update={"data": data})
    site = Site(folder, "site-a", config)
    assert MODALITY.fingerprint_cases(site.cohort.cases, config, tmp_path / "cache")[1] == [
        Exclusion(3, "no_breast_found"), Exclusion(5, "no_breast_found"),
    ]  # fmt: skip
    plan = make_plan(site.fingerprints()["mri"], config)
    for _ in range(2):  # made, and opened again
        prepared = site.prepared("mri", plan)
        assert [len(prepared[split]) for split in ("train", "validation", "test")] == [1 + external, 2, 0]
        assert [case.missed for case in prepared["validation"]] == [False, True]
    assert site.exclusion_counts() == {"no_breast_found": 1}
    # A perfect network can outline nothing of it: no overlap, and a failure.
    row = measure(np.array(prepared["validation"][1].mask, np.float32)[None], prepared["validation"][1], config,
                  full=True).rows[OWN]  # fmt: skip
    assert (row["dice"], row["failed"], row["sensitivity"]) == (0.0, 1.0, 0.0)
    assert row["reference_volume_ml"] > 1.0


@pytest.mark.parametrize("bilateral", [True, False])
def test_a_perfect_outline_is_perfect_where_one_mask_is_of_both_breasts(make_site, tmp_path, config, bilateral):
    folder = make_site({"side": "left", "bilateral": bilateral}, {"side": "right", "bilateral": bilateral})
    if bilateral:
        path = str(folder / "study0" / "lesion.nii.gz")
        image = sitk.ReadImage(path)
        one = sitk.GetArrayFromImage(image)
        both = sitk.GetImageFromArray(one | one[..., ::-1])
        both.CopyInformation(image)
        sitk.WriteImage(both, path)
    case = mri_cohort(folder).cases[0]
    # A plan on the study's own grid: an outline comes home as it was drawn.
    plan = plan_by_hand(mode="patch", spacing_mm=(4.0, 3.0, 3.0), least_voxels=(1, 1, 1))
    (prepared,), _ = MODALITY.prepare_cases([case], plan, LESION, tmp_path)
    row = measure(np.array(prepared.mask, np.float32)[None], prepared, config, full=True).rows[OWN]
    figures = {name: row[name] for name in ("dice", "hd95_mm", "nsd", "sensitivity", "lesions_fn", "failed")}
    assert figures == {"dice": 1, "hd95_mm": 0, "nsd": 1, "sensitivity": 1, "lesions_fn": 0, "failed": 0}
    # The fingerprint counts this breast's lesion alone.
    volume = fingerprint_region(MODALITY.extract(case, config, tmp_path)).volume
    assert volume.tolist() == count([row["reference_volume_ml"]], VOLUME_EDGES).tolist()


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


def counted(cases, spacing, size=90.0):
    """A site's fingerprint: so many equal cases."""
    site = SiteFingerprint.empty(3)
    site.cases[0] = cases
    site.spacing[:] = np.stack([cases * count([step], SPACING_EDGES) for step in spacing])
    site.size[:] = cases * count([size], SIZE_EDGES)
    site.intensity[:, 200] = cases
    site.square[:] = cases * FIXED
    return site


STEPS = st.tuples(*[st.floats(0.3, 10.0)] * 3)


@given(
    honest=st.lists(st.tuples(st.integers(1, 50), STEPS), min_size=2, max_size=5),
    claimed=st.integers(1, MOST_CASES // 3),
    said=STEPS,
    place=st.integers(0, 5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_spacing_lies_among_the_other_sites_own_whatever_one_site_says(config, honest, claimed, said, place):
    sites = [counted(*item) for item in honest]
    sites.insert(place, counted(claimed, said))
    patches = config.model_copy(update={"training": config.training.model_copy(update={"mode": "patch"})})
    plan = make_plan(MODALITY.merge(sites, patches), patches)
    for axis, step in enumerate(plan.spacing_mm):
        steps = [spacing[axis] for _, spacing in honest]
        # The thickest slices may be thinned to the pixels' size, as nnU-Net does: to that of the others' pixels.
        least = min(min(spacing) for _, spacing in honest)
        assert 0.99 * (least if step < 0.99 * min(steps) else min(steps)) <= step <= 1.01 * max(steps)


def test_sites_of_like_size_are_added_up_as_they_are(config):
    for cases in ([3, 3, 3], [24, 26, 49], [5, 0, 900], [7, 30], [40]):
        sites = [counted(n, (2.0 + n / 10, 1.0, 1.0)) for n in cases]
        assert MODALITY.merge(sites, config) == sum(sites, start=SiteFingerprint.empty(3))
    assert MODALITY.merge([], config).n == 0


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_a_site_that_outweighs_the_others_counts_as_one_case_fewer_than_they(config, order):
    sites = [counted(3, (2.0, 1.0, 1.0)), counted(4, (2.0, 1.0, 1.0)), counted(10**5, (9.0, 1.0, 1.0))]
    merged = MODALITY.merge([sites[index] for index in order], config)
    assert merged.n == 3 + 4 + 6
    assert merged == sites[0] + sites[1] + counted(6, (9.0, 1.0, 1.0))
