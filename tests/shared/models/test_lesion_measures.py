"""What is measured of lesions: shapes against geometry, images against numpy, and what must not change a measure."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.models.lesion_measures import RIM_MM, SURROUND_MM, lesion_measures, measure_count, voxel_edge
from shared.preprocessing.lesion_patch import signed_distance

REGIONS = ("lesion", "core", "rim", "around")
NAMES = [
    *(f"{region}.{channel}" for region in REGIONS for channel in range(4)),
    *(f"spread.{channel}" for channel in range(4)),
    *("late.lesion.2", "late.lesion.3", "late.rim.2", "late.rim.3"),
    *("core over rim", "uptake", "signal around"),
    *("q10", "q50", "q90"),
    *("volume", "surface", "depth", "longest over shortest", "middle over shortest"),
    *("second moment", "fourth moment", "box"),
]
"""Columns for four channels; every change of their order is a change of all trained weights."""
SHAPE = NAMES[NAMES.index("volume") :]


def cells(count, step):
    axis = (np.arange(count) - 0.5 * (count - 1)) * step
    return np.meshgrid(axis, axis, axis, indexing="ij")


def ellipsoid(semiaxes, count=36, step=1.0):
    mask = sum((place / half) ** 2 for place, half in zip(cells(count, step), semiaxes, strict=True)) < 1
    return outline(mask, step)


def block(sides, count=36, step=1.0):
    mask = np.all([np.abs(place) < 0.5 * side for place, side in zip(cells(count, step), sides, strict=True)], axis=0)
    return outline(mask, step)


def outline(mask, step=1.0):
    return torch.from_numpy(signed_distance(mask, step))


def patch(distance, channels=4, seed=0):
    """Noise about a level that differs by channel, uptake well above where ratios end."""
    draw = torch.Generator().manual_seed(seed)
    level = torch.tensor([1.0, 1.5, 0.3, -0.4, 0.2])[:channels].reshape(-1, 1, 1, 1)
    image = level + 0.1 * torch.randn((channels, *distance.shape), generator=draw)
    return torch.cat([image, distance[None]])[None]


def named(x):
    row = lesion_measures(x)[0]
    assert len(row) == len(NAMES)
    return dict(zip(NAMES, row.tolist(), strict=True))


def moved(x, turn, scale=1.0):
    """A batch turned by a rotation matrix and magnified, as augmentation does it."""
    theta = torch.cat([turn / scale, torch.tensor([[0.03], [-0.02], [0.04]])], dim=1)[None]
    grid = F.affine_grid(theta.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def rotation(*degrees):
    result = torch.eye(3)
    for (i, j), angle in zip(((0, 1), (1, 2), (0, 2)), degrees, strict=True):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = torch.eye(3)
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        result = result @ one
    return result


def surface_of_ellipsoid(a, b, c):
    """Numerically, from the parametrisation's normal."""
    u, v = np.meshgrid(np.linspace(0, np.pi, 400), np.linspace(0, 2 * np.pi, 800), indexing="ij")
    sin_u, cos_u = np.sin(u), np.cos(u)
    element = sin_u * np.sqrt(
        (b * c * sin_u * np.cos(v)) ** 2 + (a * c * sin_u * np.sin(v)) ** 2 + (a * b * cos_u) ** 2
    )
    return np.trapezoid(np.trapezoid(element, dx=2 * np.pi / 799), dx=np.pi / 399)


ELLIPSOIDS = [
    ((10, 10, 10), 36, 1.0),
    ((6, 6, 6), 36, 0.5),
    ((20, 20, 20), 32, 2.0),
    ((6, 8, 12), 36, 1.0),
    ((4, 12, 12), 36, 1.0),
    ((12, 5, 5), 36, 1.0),
]
BLOCKS = [((12, 16, 24), 36, 1.0), ((24, 24, 24), 36, 1.0), ((28, 14, 22.4), 36, 1.4), ((4, 4, 12), 36, 0.5)]


@pytest.mark.parametrize(("semiaxes", "count", "step"), ELLIPSOIDS)
def test_an_ellipsoids_size_and_shape(semiaxes, count, step):
    found = named(patch(ellipsoid(semiaxes, count, step)))
    a, b, c = sorted(semiaxes)
    volume = 4 / 3 * math.pi * a * b * c
    radius = (a * b * c) ** (1 / 3)
    assert math.exp(found["volume"]) == pytest.approx(volume, rel=0.05)
    assert math.exp(found["surface"]) == pytest.approx(surface_of_ellipsoid(a, b, c) / volume ** (2 / 3), rel=0.06)
    assert math.exp(found["depth"]) * radius == pytest.approx(a, abs=1.4 * step)  # no voxel lies in the middle
    # Variances go as squares of axes.
    assert math.exp(0.5 * found["longest over shortest"]) == pytest.approx(c / a, rel=0.05)
    assert math.exp(0.5 * found["middle over shortest"]) == pytest.approx(b / a, rel=0.05)
    # Mean square distance from the centre of a solid ellipsoid: a fifth of the sum of squares.
    assert math.exp(found["second moment"]) == pytest.approx((a * a + b * b + c * c) / 5 / radius**2, rel=0.03)
    assert math.exp(found["box"]) == pytest.approx(6 / math.pi, rel=0.06)


def test_the_fourth_moment_of_a_ball_by_hand():
    # Mean r^4 = 3/7, mean r^2 = 3/5 of a unit ball.
    assert named(patch(ellipsoid((12, 12, 12))))["fourth moment"] == pytest.approx((3 / 7) / (3 / 5) ** 2, rel=0.01)


@pytest.mark.parametrize(("sides", "count", "step"), BLOCKS)
def test_a_blocks_size_and_shape(sides, count, step):
    found = named(patch(block(sides, count, step)))
    a, b, c = sorted(sides)
    volume = a * b * c
    assert math.exp(found["volume"]) == pytest.approx(volume, rel=0.02)
    assert math.exp(found["surface"]) == pytest.approx(2 * (a * b + a * c + b * c) / volume ** (2 / 3), rel=0.08)
    assert math.exp(0.5 * found["longest over shortest"]) == pytest.approx(c / a, rel=0.03)
    assert math.exp(0.5 * found["middle over shortest"]) == pytest.approx(b / a, rel=0.03)
    assert found["box"] == pytest.approx(0.0, abs=1e-6)
    assert math.exp(found["second moment"]) == pytest.approx(
        (a * a + b * b + c * c) / 12 / (0.75 * volume / math.pi) ** (2 / 3), rel=0.03
    )


def test_surfaces_tell_a_ball_from_what_is_less_round():
    shapes = (ellipsoid((10, 10, 10)), ellipsoid((6, 8, 12)), block((16, 16, 16)), block((8, 8, 24)))
    surfaces = [named(patch(item))["surface"] for item in shapes]
    assert surfaces == sorted(surfaces)


@pytest.mark.parametrize("scale", [0.8, 0.9, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("distance", [ellipsoid((10, 10, 10)), ellipsoid((6, 8, 12)), block((12, 16, 24))])
def test_a_voxels_edge_follows_every_magnification_and_turn(distance, scale):
    for turn in (torch.eye(3), rotation(30, 0, 0), rotation(20, 50, 70)):
        changed = moved(distance[None, None], turn, scale)[:, 0]
        assert voxel_edge(changed).item() == pytest.approx(1 / scale, rel=0.03)


@pytest.mark.parametrize("step", [0.3, 1.0, 2.0])
def test_a_voxels_edge_is_read_from_distances_also_where_most_are_clipped(step):
    distance = ellipsoid((5 * step, 4 * step, 5 * step), 48, step)
    assert ((distance == -20.0).float().mean() > 0.5) == (step == 2.0)
    assert voxel_edge(distance[None]).item() == pytest.approx(step, rel=0.01)


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.15])
@pytest.mark.parametrize("distance", [ellipsoid((8, 8, 8)), ellipsoid((6, 8, 11)), block((8, 10, 24))])
def test_size_and_shape_survive_what_augmentation_does(distance, scale):
    x = patch(distance)
    before = named(x)
    for turn in (torch.eye(3), rotation(40, 0, 0), rotation(20, 50, 70), rotation(0, 0, 130)):
        after = named(moved(x, turn, scale))
        for name in ("volume", "surface", "second moment"):
            assert after[name] == pytest.approx(before[name], abs=0.06), name
        for name in ("depth", "longest over shortest", "middle over shortest"):  # of whole voxels
            assert after[name] == pytest.approx(before[name], abs=0.12), name


def test_regions_are_shells_of_the_distance_and_each_mean_has_its_column():
    distance = ellipsoid((11, 11, 11))
    shells = {
        "core": distance > RIM_MM,
        "rim": (distance > 0) & (distance <= RIM_MM),
        "around": (distance <= 0) & (distance > -SURROUND_MM),
    }
    image = torch.full((4, *distance.shape), 99.0)  # elsewhere; no mean may see it
    for number, shell in enumerate(shells.values()):
        for channel in range(4):
            image[channel][shell] = 1 + number + 0.1 * channel
    found = named(torch.cat([image, distance[None]])[None])
    core, rim = shells["core"].sum().item(), shells["rim"].sum().item()
    for channel in range(4):
        for number, region in enumerate(shells):
            assert found[f"{region}.{channel}"] == pytest.approx(1 + number + 0.1 * channel, abs=1e-3)
        expected = (core * (1 + 0.1 * channel) + rim * (2 + 0.1 * channel)) / (core + rim)
        assert found[f"lesion.{channel}"] == pytest.approx(expected, abs=1e-3)
        share = core / (core + rim)  # two values, 1 apart
        assert found[f"spread.{channel}"] == pytest.approx(math.sqrt(share * (1 - share)), abs=1e-3)


def test_columns_of_the_image_agree_with_numpy():
    distance = ellipsoid((6, 9, 11))
    x = patch(distance)
    x[0, 1] += 0.1 * distance  # more uptake in the core
    found = named(x)
    image, depth = x[0, :-1].double().numpy(), distance.numpy()
    lesion, core, rim = depth > 0, depth > 4, (depth > 0) & (depth <= 4)
    around = (depth <= 0) & (depth > -6)
    uptake = image[1][lesion].mean()
    expected = {
        "core.1": image[1][core].mean(),
        "around.3": image[3][around].mean(),
        "spread.0": image[0][lesion].std(),
        "spread.3": image[3][lesion].std(),
        "late.lesion.2": image[2][lesion].mean() / uptake,
        "late.lesion.3": image[3][lesion].mean() / uptake,
        "late.rim.2": image[2][rim].mean() / image[1][rim].mean(),
        "late.rim.3": image[3][rim].mean() / image[1][rim].mean(),
        "core over rim": math.log(image[1][core].mean() / image[1][rim].mean()),
        "uptake": math.log(uptake),
        "signal around": math.log(image[0][around].mean() / image[0][lesion].mean()),
        "q10": np.quantile(image[1][lesion], 0.1) / uptake,
        "q50": np.quantile(image[1][lesion], 0.5) / uptake,
        "q90": np.quantile(image[1][lesion], 0.9) / uptake,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=2e-3), name
    assert found["core over rim"] > 0.05


def test_a_lesion_without_a_core_takes_its_own_means_for_it():
    found = named(patch(ellipsoid((3, 3, 3))))
    for channel in range(4):
        assert found[f"core.{channel}"] == found[f"lesion.{channel}"] == found[f"rim.{channel}"]
    assert found["core over rim"] == 0.0


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_the_count_of_measures_is_their_width(channels):
    x = patch(ellipsoid((6, 6, 6), 20), channels)
    assert lesion_measures(torch.cat([x, x])).shape == (2, measure_count(channels))


def lopsided():
    """No axis or direction is like another."""
    z, y, x = cells(36, 1.0)
    mask = ((z / 6) ** 2 + (y / 8) ** 2 + (x / 11) ** 2 < 1) | ((z - 4) ** 2 + (y + 5) ** 2 + (x - 7) ** 2 < 30)
    return patch(outline(mask))


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_mirrors_change_nothing(axis):
    x = lopsided()
    torch.testing.assert_close(lesion_measures(x.flip(axis)), lesion_measures(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(2, 3), (3, 4), (2, 4)])
def test_quarter_turns_change_nothing(axes):
    x = lopsided()
    torch.testing.assert_close(lesion_measures(x.rot90(1, axes)), lesion_measures(x), rtol=1e-4, atol=1e-4)


def test_a_place_elsewhere_in_the_patch_changes_nothing_of_the_shape():
    mask = np.zeros((36, 36, 36), bool)
    mask[8:18, 10:22, 9:24] = True
    here, there = (named(patch(outline(np.roll(mask, shift, (0, 1, 2))))) for shift in ((0, 0, 0), (9, 4, 5)))
    for name in SHAPE:
        assert here[name] == pytest.approx(there[name], abs=1e-3), name


def test_each_lesion_is_measured_alone():
    one, other = lopsided(), patch(ellipsoid((5, 7, 9)), seed=1)
    both = lesion_measures(torch.cat([one, other]))
    alone = torch.cat([lesion_measures(one), lesion_measures(other)])
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-5)


def test_a_gain_of_the_enhancement_leaves_its_ratios_alone():
    x = lopsided()
    louder = x.clone()
    louder[:, 1:-1] *= 1.7
    before, after = named(x), named(louder)
    for name in (*NAMES[20:25], *NAMES[26:]):
        assert after[name] == pytest.approx(before[name], abs=1e-3), name
    assert after["uptake"] - before["uptake"] == pytest.approx(math.log(1.7), abs=1e-3)
    assert after["lesion.2"] == pytest.approx(1.7 * before["lesion.2"], rel=1e-3)


def test_a_gain_before_contrast_changes_only_what_is_read_there():
    x = lopsided()
    louder = x.clone()
    louder[:, 0] *= 1.4
    before, after = named(x), named(louder)
    changed = {name for name in NAMES if abs(after[name] - before[name]) > 1e-3}
    assert changed == {"lesion.0", "core.0", "rim.0", "around.0", "spread.0"}


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("fill", ["noise", "zero", "negative"])
def test_measures_are_finite_whatever_the_lesion_and_the_image(channels, fill):
    speck = np.zeros((16, 16, 16), bool)
    speck[8, 8, 8] = True
    corner = np.zeros((16, 16, 16), bool)
    corner[0, 0, 0] = True
    hollow = np.ones((16, 16, 16), bool)
    hollow[4, 4, 4] = False
    masks = (speck, corner, hollow, np.ones_like(speck), np.zeros_like(speck))
    for mask in masks:
        x = patch(outline(mask, 0.5), channels)
        x[:, :-1] *= {"noise": 1.0, "zero": 0.0, "negative": -3.0}[fill]
        x.requires_grad_()
        found = lesion_measures(x)
        assert found.isfinite().all()
        assert found.abs().max() < 100
        found.sum().backward()  # explanations ask for the gradient
        assert x.grad.isfinite().all()


def test_half_precision_around_it_does_not_reach_it():
    x = lopsided()
    with torch.autocast("cpu", torch.bfloat16):
        found = lesion_measures(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, lesion_measures(x))
