"""Augmentation of patches by its invariants: rigid turns, one draw for image and distance, sizes in mm kept."""

import math

import pytest
import torch
import torch.nn.functional as F

from shared.config.sections import AugmentationConfig
from shared.models.lesion_measures import lesion_measures, measure_count, voxel_edge
from shared.tasks.patches import _turn, augment

OFF = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0)
ALWAYS = 0.999999


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    size = measure_count(4) - 7
    before, after = lesion_measures(x)[:, size], lesion_measures(moved)[:, size]
    # Cube root of a ball's volume; its distance is exact and in mm.
    assert before.tolist() == pytest.approx([math.log(8 * (4 / 3 * math.pi) ** (1 / 3))] * 12, abs=0.02)
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.017)


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
