"""Patches as the loop reads them: balance by hand counts, opened cases by the patch that was cut."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.config.sections import ClassifierSection, PatchConfig
from shared.errors import ConfigError
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.tasks.patches import PatchCase, balanced, open_patches, sample, shape
from shared.types import Grid

PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(2.0, 2.0, 2.0),
    crop_voxels=(32, 32, 48),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(1.0,) * 4,
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20,)),
)


def cases(*strata):
    return [
        PatchCase(f"case{number}", Path("nowhere"), (0.0,), stratum, CaseLabels())
        for number, stratum in enumerate(strata)
    ]


def run_config(task="subtype-ensemble", **settings):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}, **settings}
    return parse_config(raw, "t").for_task(task)


def totals(found):
    weights = Counter()
    for case in found:
        weights[case.stratum] += case.weight
    return weights


def test_weights_make_every_class_count_alike_and_average_one():
    found = balanced(cases(*"aaaaaabbc"), "weights")
    assert totals(found) == pytest.approx({"a": 3.0, "b": 3.0, "c": 3.0})
    assert sum(case.weight for case in found) / len(found) == pytest.approx(1.0)
    assert [case.key for case in found] == [f"case{number}" for number in range(9)]


def test_no_case_weighs_more_than_five_times_the_average_one():
    found = balanced(cases(*"a" * 60, "b"), "weights")
    # 61 / 2 cases a class: 30.5 / 60 for each of the many, and not 30.5 for the one.
    assert found[-1].weight == 5.0
    assert {case.weight for case in found[:-1]} == {30.5 / 60}


def test_cases_without_a_class_weigh_one_and_are_not_counted():
    found = balanced(cases("", *"aaab", "", ""), "weights")
    assert [case.weight for case in found if not case.stratum] == [1.0] * 3
    assert totals(found)["a"] == totals(found)["b"] == pytest.approx(2.0)


def test_oversampling_repeats_rare_cases_up_to_five_times():
    found = balanced(cases("a", *"aaaaaaaaaaa", *"bbbbb", "c", ""), "oversampling")
    copies = Counter(case.key for case in found)
    assert Counter(case.stratum for case in found) == {"a": 12, "b": 10, "c": 5, "": 1}  # 12/5 rounds to 2; 12 is cut
    assert copies["case12"] == 2
    assert copies["case17"] == 5
    assert {case.weight for case in found} == {1.0}


@pytest.mark.parametrize("how", ["none", "weights", "oversampling"])
@pytest.mark.parametrize("strata", [("a", "a", "a"), ("", "", ""), ("a", "a", ""), ()])
def test_with_fewer_than_two_classes_nothing_is_balanced(how, strata):
    assert balanced(cases(*strata), how) == cases(*strata)


def test_balance_can_be_left_alone():
    assert balanced(cases(*"aaaab"), "none") == cases(*"aaaab")


def region(place):
    shape = (40, 40, 40)
    phases = np.random.default_rng(place).random((4, *shape)).astype(np.float16)
    lesion = np.zeros(shape, bool)
    lesion[12:24, 12:22, place : place + 14] = True
    return BreastRegion(phases, np.ones(shape, bool), lesion, Grid(shape, (1.0, 1.0, 1.0)), (0, 0, 0), "right")


def cached(root, *subtypes):
    return [
        SimpleNamespace(
            key=f"key{number}",
            labels=CaseLabels(subtype=subtype),
            region_folder=root / "regions" / f"entry{number}",
            region=lambda number=number: region(8 + number),
        )
        for number, subtype in enumerate(subtypes)
    ]


def by_subtype(labels, _config):
    return ((float(len(labels.subtype)),), labels.subtype) if labels.subtype else ((), "")


def test_opened_cases_have_their_patch_their_target_and_a_balanced_weight(tmp_path):
    config = run_config(subtype_ensemble={"patch": {"voxels": [16, 16, 16]}})
    found = open_patches(cached(tmp_path, "one", "three", None, "one", "one"), PLAN, config, by_subtype)
    assert [case.key for case in found] == ["key0", "key1", "key3", "key4"]  # the third has no label
    assert [case.target for case in found] == [(3.0,), (5.0,), (3.0,), (3.0,)]
    assert [case.weight for case in found] == pytest.approx([2 / 3, 2.0, 2 / 3, 2 / 3])
    for case, place in zip(found, (8, 9, 11, 12), strict=True):
        expected = cut_patch(region(place), region(place).lesion, PLAN, PatchConfig(voxels=(16, 16, 16)))
        assert case.patch.tobytes() == expected.tobytes()
        assert case.folder.parent == tmp_path / "patches"
    patch, target = sample(found[1], config, np.random.default_rng(0))
    assert patch.shape == (5, 16, 16, 16)
    assert (target.tolist(), target.dtype) == ([5.0, 2.0], np.float32)


def test_the_section_says_how_a_site_is_balanced(tmp_path):
    config = run_config(subtype_ensemble={"balance": "oversampling", "patch": {"voxels": [8, 8, 8]}})
    found = open_patches(cached(tmp_path, "one", "three", "one"), PLAN, config, by_subtype)
    assert Counter(case.key for case in found) == {"key0": 1, "key1": 2, "key2": 1}


def test_each_classifier_has_its_own_section_and_a_segmentation_none():
    config = run_config("lesion-malignancy", lesion_malignancy={"rounds": 3})
    assert config.section(ClassifierSection).rounds == config.federation.rounds == 3
    assert run_config("receptor-status").section(ClassifierSection).rounds != 3
    with pytest.raises(ConfigError, match="'lesion-segmentation' has no section of the kind ClassifierSection"):
        run_config("lesion-segmentation").section(ClassifierSection)


def test_a_patch_has_the_shape_that_is_timed_before_there_are_cases(tmp_path):
    config = run_config(subtype_ensemble={"patch": {"voxels": [16, 12, 8]}})
    (case,) = open_patches(cached(tmp_path, "one"), PLAN, config, by_subtype)
    assert case.patch.shape == shape(config) == (5, 16, 12, 8)
