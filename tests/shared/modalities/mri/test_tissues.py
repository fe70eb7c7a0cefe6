"""Tissue masks of a prepared case: placed as its lesion is, in an entry of their own, or not there at all."""

import logging

import numpy as np
import pytest
import SimpleITK as sitk

from shared.config.run_config import parse_config
from shared.errors import StudyError
from shared.modalities.mri.cache import cached_case
from shared.modalities.mri.mri import MODALITY
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.tissues import keep_tissues, native_tissues, open_tissues, with_tissues
from tests.mri_cases import mri_cohort

PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(5.0, 3.5, 3.0),
    crop_voxels=(32, 32, 48),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(0.7, 0.3, 0.3, 0.3),
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20, 20, 20, 20)),
)


@pytest.fixture
def site(make_site):
    """Two patients; the first has tissue masks: its lesion twice, until a test draws others."""
    folder = make_site({"side": "left"}, {"side": "right"})
    lesion = "study0/lesion.nii.gz"
    rewrite(folder, {"P0": (lesion, lesion)})
    return folder


def rewrite(site, masks):
    """Add the tissue columns to `cases.csv`."""
    header, *rows = (site / "cases.csv").read_text().splitlines()
    if "breast_mask" not in header:
        header += ",breast_mask,fibroglandular_mask"
    width = header.count(",") + 1
    lines = [",".join([*row.split(",")[: width - 2], *masks.get(row.split(",")[0], ("", ""))]) for row in rows]
    (site / "cases.csv").write_text("\n".join([header, *lines]) + "\n")


def draw(site, name, change):
    """Write a mask beside the lesion's: its array, changed in place."""
    image = sitk.ReadImage(str(site / "study0" / "lesion.nii.gz"))
    values = sitk.GetArrayFromImage(image)
    change(values)
    drawn = sitk.GetImageFromArray(values)
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(site / "study0" / name))
    return f"study0/{name}"


def prepared(site, root):
    return root, [(case, cached_case(case, PLAN, root)) for case in mri_cohort(site).cases]


def test_a_tissue_drawn_as_the_lesion_lies_where_the_lesion_lies(site, tmp_path):
    _, ((case, made), _) = prepared(site, tmp_path / "cache")
    assert made.place.mirrored
    found = with_tissues(tmp_path / "cache", case, made)
    assert found.labels.tissues
    assert made.mask.any()
    for mask in open_tissues(found):
        np.testing.assert_array_equal(mask, made.mask)
    for mask in native_tissues(found):
        np.testing.assert_array_equal(mask, made.native_mask)


def test_only_what_lies_in_the_breasts_box_counts_and_gland_only_within_the_breast(site, tmp_path):
    def everywhere(values):
        values[:] = 1
        values[0, 0, 0] = 0  # a mask that marks all corners is taken for the background, and refused

    whole = draw(site, "whole.nii.gz", everywhere)
    rewrite(site, {"P0": ("study0/lesion.nii.gz", whole)})
    cache, ((case, made), _) = prepared(site, tmp_path / "cache")
    breast, gland = native_tissues(with_tissues(cache, case, made))
    np.testing.assert_array_equal(gland, breast)
    rewrite(site, {"P0": (whole, "study0/lesion.nii.gz")})
    _, ((case, made), _) = prepared(site, tmp_path / "cache")
    breast, gland = native_tissues(with_tissues(cache, case, made))
    box = np.zeros(made.native_grid.shape, bool)
    box[made.place.window] = True
    assert 0 < box.sum() < box.size
    np.testing.assert_array_equal(breast, box)
    np.testing.assert_array_equal(gland, made.native_mask)


def test_entries_of_other_tasks_stay_as_they_are(site, tmp_path):
    cache, ((case, made), _) = prepared(site, tmp_path / "cache")
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    found = with_tissues(cache, case, made)
    assert {path: path.read_bytes() for path in before} == before
    assert found.folder == made.folder
    assert found.tissue_folder.parent.name == "tissues"


def test_an_entry_is_kept_by_the_masks_bytes(site, tmp_path):
    def thinner(values):
        values[values.shape[0] // 2 :] = 0

    cache, ((case, made), _) = prepared(site, tmp_path / "cache")
    first = keep_tissues(cache, case, made)
    stamp = (first / "tissues.npy").stat().st_mtime_ns
    assert keep_tissues(cache, case, made) == first
    assert (first / "tissues.npy").stat().st_mtime_ns == stamp
    (first / "tissues.npy").write_bytes(b"torn")
    assert keep_tissues(cache, case, made) == first
    assert open_tissues(with_tissues(cache, case, made)).any()
    rewrite(site, {"P0": ("study0/lesion.nii.gz", draw(site, "thin.nii.gz", thinner))})
    _, ((case, made), _) = prepared(site, tmp_path / "cache")
    assert keep_tissues(cache, case, made) != first


def broken(site):
    (site / "study0" / "broken.nii.gz").write_bytes(b"no image")
    return "study0/broken.nii.gz"


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (lambda _: ("study0/lesion.nii.gz", ""), "no_mask"),
        (lambda _: ("", "study0/lesion.nii.gz"), "no_mask"),
        (lambda _: ("study0/absent.nii.gz", "study0/lesion.nii.gz"), "no_mask"),
        (lambda site: ("study0/lesion.nii.gz", broken(site)), "unreadable_mask"),
        (lambda site: (draw(site, "none.nii.gz", lambda v: v.fill(0)), "study0/lesion.nii.gz"), "empty_mask"),
    ],
    ids=["breast alone", "gland alone", "absent", "damaged", "empty"],
)
def test_a_case_without_usable_masks_stays_for_the_other_tasks(site, tmp_path, caplog, masks, reason):
    rewrite(site, {"P0": masks(site)})
    cache, ((case, made), _) = prepared(site, tmp_path / "cache")
    with caplog.at_level(logging.WARNING):
        assert with_tissues(cache, case, made) == made
    assert f"has no tissue masks: {reason}" in caplog.text
    assert "study0" not in caplog.text
    with pytest.raises(StudyError, match="no reference masks"):
        open_tissues(made)


def test_rows_that_name_no_tissue_are_prepared_in_silence_and_only_when_asked(site, tmp_path, caplog):
    cache, cases = tmp_path / "cache", mri_cohort(site).cases
    with caplog.at_level(logging.WARNING):
        found, excluded = MODALITY.prepare_cases(cases, PLAN, frozenset({"lesion", "tissues"}), cache)
    assert [case.labels.tissues for case in found] == [True, False]
    assert not excluded
    assert not caplog.text
    plain, _ = MODALITY.prepare_cases(cases, PLAN, frozenset({"lesion"}), cache)
    assert [case.labels.tissues for case in plain] == [False, False]


def test_only_runs_with_the_task_read_tissues_and_only_runs_without_another_do_without_lesions():
    def needs(*tasks):
        raw = {"name": "t", "data": {"root": "d", "sites": ["a"]}, "tasks": list(tasks)}
        return parse_config(raw, "t").needs("mri")

    assert needs("breast-segmentation") == {"tissues"}
    assert needs("lesion-segmentation", "breast-segmentation") == {"lesion", "tissues"}
    assert needs("lesion-malignancy") == {"lesion"}
