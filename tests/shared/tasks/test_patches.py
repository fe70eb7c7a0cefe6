"""Patches as the loop reads them: balance by hand counts, augmentation by its invariants."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.cohort.labels import CaseLabels
from shared.config import parse_config
from shared.config_sections import AugmentationConfig, PatchConfig
from shared.errors import ConfigError
from shared.models.lesion_measures import lesion_measures, measure_count, voxel_edge
from shared.preprocessing.lesion_patch import cut_patch
from shared.preprocessing.plan import Extraction, Plan
from shared.preprocessing.region import BreastRegion
from shared.tasks.patches import PatchCase, _turn, augment, balanced, open_patches, sample, section
from shared.types import Grid

OFF = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0)
ALWAYS = 0.999999
PLAN = Plan(
    mode="whole_breast",
    spacing_mm=(2.0, 2.0, 2.0),
    crop_voxels=(32, 32, 48),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(1.0,) * 4,
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20,)),
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases(*strata):
    return [
        PatchCase(f"case{number}", Path("nowhere"), (0.0,), stratum, CaseLabels())
        for number, stratum in enumerate(strata)
    ]


def run_config(task="subtype-ensemble", **settings):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}, **settings}
    return parse_config(raw, "t").for_task(task)


def batch(count=2, sides=(24, 24, 24), radius=6.0):
    """Noise over a level, and the exact distance of a ball a little off the middle."""
    draw = torch.Generator().manual_seed(3)
    axes = [torch.arange(side) - 0.5 * (side - 1) for side in sides]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    distance = (radius - ((z - 0.5) ** 2 + y**2 + (x + 0.7) ** 2).sqrt()).clamp(-20, 20)
    image = torch.tensor([1.0, 1.5, 0.2, -0.3]).reshape(1, 4, 1, 1, 1) + 0.2 * torch.randn(
        (count, 4, *sides), generator=draw
    )
    return torch.cat([image, distance.expand(count, 1, *sides)], dim=1)


def changed(patches, seed=5, **settings):
    target = torch.arange(2.0 * len(patches)).reshape(len(patches), 2)
    return augment(patches, target, AugmentationConfig(**{**OFF, **settings}), torch.Generator().manual_seed(seed))[0]


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


def test_with_every_probability_zero_nothing_changes():
    for sides in ((24, 24, 24), (12, 20, 30)):
        x = batch(sides=sides)
        torch.testing.assert_close(changed(x), x, rtol=0.0, atol=1e-5)


def test_targets_are_left_alone():
    target = torch.tensor([[3.0, 0.5], [float("nan"), 2.0]])
    before = target.clone()
    settings = AugmentationConfig(**dict.fromkeys(OFF, 0.9))
    after = augment(batch(), target, settings, torch.Generator().manual_seed(1))[1]
    for item in (target, after):
        torch.testing.assert_close(item, before, rtol=0.0, atol=0.0, equal_nan=True)


def test_the_same_generator_gives_the_same_bytes_and_another_other_ones():
    settings = dict.fromkeys(OFF, 0.5) | {"rotation_deg": 180.0}
    x = batch()
    before = x.clone()
    one = changed(x, **settings)
    torch.manual_seed(99)  # torch's own draws are not asked
    assert torch.equal(changed(x, **settings), one)
    assert not torch.equal(changed(x, seed=6, **settings), one)
    assert torch.equal(x, before)


def test_each_patch_has_its_own_draw():
    x = batch(1).expand(2, -1, -1, -1, -1)
    one, two = changed(x, affine=ALWAYS)
    assert (one - two).abs().max() > 0.1


@pytest.mark.parametrize("seed", range(12))
def test_turns_are_rotations_mirrored_and_scaled_alike_in_all_directions(seed):
    config = AugmentationConfig(**{**OFF, "flip": 0.5, "affine": ALWAYS}, rotation_deg=180.0, scale=0.2)
    theta = _turn(config, torch.Generator().manual_seed(seed))
    matrix = theta[:, :3].double()
    volume = torch.linalg.det(matrix).abs().item()
    scale = volume ** (-1 / 3)
    assert 0.8 <= scale <= 1.2
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64) / scale**2, rtol=0.0, atol=1e-5)
    assert theta[:, 3].abs().max() <= 0.08


def test_turns_are_about_any_axis_as_far_as_they_may_and_mirrors_along_any():
    generator = torch.Generator().manual_seed(0)
    config = AugmentationConfig(**{**OFF, "affine": ALWAYS}, rotation_deg=40.0, scale=0.0)
    turns = [_turn(config, generator)[:, :3] for _ in range(200)]
    angles = torch.stack([torch.rad2deg(torch.acos((item.trace() - 1) / 2)) for item in turns])
    assert 38 < angles.max() <= 40.001
    axes = torch.stack(
        [F.normalize(torch.stack([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]), dim=0) for m in turns]
    )
    # Of directions all alike the mean square along each axis is a third.
    torch.testing.assert_close(axes.square().mean(dim=0), torch.full((3,), 1 / 3), rtol=0.0, atol=0.08)
    mirrors = AugmentationConfig(**{**OFF, "flip": 0.5})
    signs = {tuple(_turn(mirrors, generator)[:, :3].diagonal().tolist()) for _ in range(100)}
    assert len(signs) == 8


def test_mirrors_are_exact_and_take_image_and_distance_along():
    x = batch(1, sides=(12, 14, 16), radius=4.0)
    flips = [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]
    seen = set()
    for seed in range(40):
        found = changed(x, seed=seed, flip=0.5)
        fits = [axes for axes in flips if torch.allclose(found, x.flip(axes), atol=1e-4)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 8


@pytest.mark.parametrize("sides", [(32, 32, 32), (20, 32, 44)])
def test_a_turned_ball_is_a_ball_also_in_a_box_of_unlike_sides(sides):
    x = batch(8, sides, radius=6.0)
    turned = changed(x, affine=ALWAYS, rotation_deg=180.0, scale=0.0)
    assert (turned - x).abs().amax(dim=(1, 2, 3, 4)).min() > 0.3
    place = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in sides), indexing="ij")).flatten(1)
    for distance in turned[:, -1]:
        inside = place[:, distance.flatten() > 0]
        centre = inside.mean(dim=1, keepdim=True)
        expected = 6.0 - (place - centre).norm(dim=0).reshape(sides)
        assert (distance - expected)[distance.abs() < 2.5].abs().max() < 0.5


@pytest.mark.parametrize("scale", [0.0, 0.15])
def test_lesions_keep_their_millimetres_whatever_the_turn_and_magnification(scale):
    x = batch(12, (36, 36, 36), radius=8.0)
    x[:, -1] = (x[:, -1] / 1.5).clamp(-20, 20) * 1.5  # 1.5 mm a voxel would be 12 mm; here a voxel is 1 mm
    moved = changed(x, flip=0.5, affine=ALWAYS, rotation_deg=180.0, scale=scale)
    spread = voxel_edge(moved[:, -1]).log()
    assert (spread.max() - spread.min() > 0.1) == (scale > 0)
    volume = len(lesion_measures(x)[0]) - 8
    before, after = lesion_measures(x)[:, volume], lesion_measures(moved)[:, volume]
    assert measure_count(4) == volume + 8
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.05)


def test_distances_stay_within_their_range():
    x = batch(8, radius=9.0)
    found = changed(x, **dict.fromkeys(OFF, 0.9), rotation_deg=180.0, scale=0.3)
    assert found[:, -1].min() >= x[:, -1].min() - 1e-4
    assert found[:, -1].max() <= x[:, -1].max() + 1e-4
    assert found.isfinite().all()


def test_image_and_distance_move_together():
    x = batch()
    x[:, 0] = x[:, -1]
    moved = changed(x, flip=0.5, affine=ALWAYS, rotation_deg=90.0)
    assert torch.equal(moved[:, 0], moved[:, -1])
    assert not torch.allclose(moved, x, atol=0.5)


@pytest.mark.parametrize("name", ["intensity", "timing", "noise", "bias_field", "blur"])
def test_intensity_changes_leave_the_distance_alone(name):
    x = batch()
    found = changed(x, **{name: ALWAYS})
    torch.testing.assert_close(found[:, -1], x[:, -1], rtol=0.0, atol=1e-5)
    assert (found[:, :-1] - x[:, :-1]).abs().max() > 0.01


def test_beyond_the_border_its_voxels_go_on():
    x = torch.ones(4, 5, 16, 16, 16)
    x[:, -1] = -7.0
    found = changed(x, affine=ALWAYS, rotation_deg=180.0, scale=0.3)
    torch.testing.assert_close(found, x, rtol=0.0, atol=1e-5)  # nothing dark, no lesion, comes in from outside


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
    assert section(config) == config.lesion_malignancy
    assert section(run_config("receptor-status")).rounds != 3
    with pytest.raises(ConfigError, match="'lesion-segmentation' has no patches"):
        section(run_config("lesion-segmentation"))
