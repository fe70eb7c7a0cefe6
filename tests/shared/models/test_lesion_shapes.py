"""What is measured of an outline: ellipsoids and blocks, ellipses and rectangles, against their geometry."""

import math

import numpy as np
import pytest
import torch

from shared.models.lesion_measures import lesion_measures, voxel_edge
from tests.shared.models.drawn_lesions import (
    block,
    ellipsoid,
    moved,
    named,
    names,
    outline,
    patch,
    rotation,
    shape_names,
)

ELLIPSOIDS = [
    ((10, 10, 10), 36, 1.0),
    ((6, 6, 6), 36, 0.5),
    ((20, 20, 20), 32, 2.0),
    ((6, 8, 12), 36, 1.0),
    ((4, 12, 12), 36, 1.0),
    ((12, 5, 5), 36, 1.0),
    ((10, 10), 36, 1.0),
    ((6, 4), 36, 0.5),
    ((10, 24), 36, 2.0),
    ((15, 4), 36, 1.0),
]
BLOCKS = [
    ((12, 16, 24), 36, 1.0),
    ((24, 24, 24), 36, 1.0),
    ((28, 14, 22.4), 36, 1.4),
    ((4, 4, 12), 36, 0.5),
    ((12, 12), 36, 0.5),
    ((24, 8), 36, 1.0),
    ((14, 28), 36, 1.4),
]


def surface_of_ellipsoid(a, b, c):
    """Numerically, from the parametrisation's normal."""
    u, v = np.meshgrid(np.linspace(0, np.pi, 400), np.linspace(0, 2 * np.pi, 800), indexing="ij")
    sin_u, cos_u = np.sin(u), np.cos(u)
    element = sin_u * np.sqrt(
        (b * c * sin_u * np.cos(v)) ** 2 + (a * c * sin_u * np.sin(v)) ** 2 + (a * b * cos_u) ** 2
    )
    return np.trapezoid(np.trapezoid(element, dx=2 * np.pi / 799), dx=np.pi / 399)


def length_of_ellipse(a, b):
    angle = np.linspace(0, 2 * np.pi, 4001)
    return np.trapezoid(np.hypot(a * np.sin(angle), b * np.cos(angle)), angle)


@pytest.mark.parametrize(("semiaxes", "count", "step"), ELLIPSOIDS)
def test_an_ellipsoids_size_and_shape(semiaxes, count, step):
    found = named(patch(ellipsoid(semiaxes, count, step)), step)
    halves, dimensions = sorted(semiaxes), len(semiaxes)
    volume = math.prod(halves) * (4 / 3 * math.pi if dimensions == 3 else math.pi)
    surface = surface_of_ellipsoid(*halves) if dimensions == 3 else length_of_ellipse(*halves)
    side = volume ** (1 / dimensions)
    assert math.exp(found["size"]) == pytest.approx(side, rel=0.02)
    assert math.exp(found["surface"]) == pytest.approx(surface / side ** (dimensions - 1), rel=0.06)
    assert math.exp(found["depth"]) * side == pytest.approx(halves[0], abs=1.4 * step)  # no voxel lies in the middle
    # Variances go as squares of axes.
    assert math.exp(0.5 * found["longest over shortest"]) == pytest.approx(halves[-1] / halves[0], rel=0.05)
    if dimensions == 3:
        assert math.exp(0.5 * found["longest over middle"]) == pytest.approx(halves[2] / halves[1], rel=0.05)
    # Mean square distance from the centre of a solid ellipsoid: a fifth of the sum of squares (a quarter in planes).
    expected = sum(half * half for half in halves) / (dimensions + 2) / side**2
    assert math.exp(found["second moment"]) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("sides", "count", "step"), BLOCKS)
def test_a_blocks_size_and_shape(sides, count, step):
    found = named(patch(block(sides, count, step)), step)
    sides, dimensions = sorted(sides), len(sides)
    volume = math.prod(sides)
    side = volume ** (1 / dimensions)
    surface = 2 * sum(volume / each for each in sides)
    assert math.exp(found["size"]) == pytest.approx(side, rel=0.01)
    assert math.exp(found["surface"]) == pytest.approx(surface / side ** (dimensions - 1), rel=0.08)
    assert math.exp(found["depth"]) * side == pytest.approx(0.5 * sides[0], abs=0.6 * step)
    assert math.exp(0.5 * found["longest over shortest"]) == pytest.approx(sides[-1] / sides[0], rel=0.03)
    if dimensions == 3:
        assert math.exp(0.5 * found["longest over middle"]) == pytest.approx(sides[2] / sides[1], rel=0.03)
    expected = sum(each * each for each in sides) / 12 / side**2
    assert math.exp(found["second moment"]) == pytest.approx(expected, rel=0.03)


def test_fourth_moments_by_hand():
    # Mean r^4 over the square of mean r^2: 3/7 and 3/5 of a unit ball, 1/3 and 1/2 of a disc.
    assert named(patch(ellipsoid((12, 12, 12))))["fourth moment"] == pytest.approx((3 / 7) / (3 / 5) ** 2, rel=0.01)
    assert named(patch(ellipsoid((14, 14))))["fourth moment"] == pytest.approx((1 / 3) / (1 / 2) ** 2, rel=0.01)
    # Along an axis of side 1 the mean of x^2 is 1/12 and of x^4 1/80.
    for sides in ((20, 20, 20), (20, 20)):
        d = len(sides)
        expected = (d / 80 + d * (d - 1) / 144) / (d / 12) ** 2
        assert named(patch(block(sides)))["fourth moment"] == pytest.approx(expected, rel=0.01)


def test_a_sheet_of_one_voxel_is_not_infinitely_flat():
    found = named(patch(block((1, 11, 21), 35)))
    # Of n voxels in a row the places' variance is (n^2 - 1) / 12; a tenth is added to each.
    assert math.exp(found["longest over shortest"]) == pytest.approx((440 / 12 + 0.1) / 0.1, rel=1e-3)
    assert math.exp(found["longest over middle"]) == pytest.approx((440 / 12 + 0.1) / (120 / 12 + 0.1), rel=1e-3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_empty_has_the_size_and_surface_of_one_voxel(dimensions):
    found = named(patch(torch.full([12] * dimensions, -20.0)), 2.0)
    assert found["size"] == pytest.approx(math.log(2.0))
    assert found["surface"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "shapes",
    [
        (ellipsoid((10, 10, 10)), ellipsoid((6, 8, 12)), block((16, 16, 16)), block((8, 8, 24))),
        (ellipsoid((10, 10)), ellipsoid((7, 11)), block((16, 16)), block((8, 24))),
    ],
)
def test_surfaces_tell_a_ball_from_what_is_less_round(shapes):
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


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_a_volumes_edge_is_read_where_it_is_not_given(step):
    x = patch(ellipsoid((8 * step, 6 * step, 11 * step), step=step))
    assert torch.equal(lesion_measures(x), lesion_measures(x, voxel_edge(x[:, -1])))
    assert named(x)["size"] == pytest.approx(named(x, step)["size"], abs=0.01)
    assert named(x, 2.0 * step)["size"] > named(x, step)["size"] + 0.5


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.15])
@pytest.mark.parametrize(
    "distance",
    [
        ellipsoid((8, 8, 8)),
        ellipsoid((6, 8, 11)),
        block((8, 10, 24)),
        ellipsoid((9, 9)),
        ellipsoid((6, 12)),
        block((8, 20)),
    ],
)
def test_size_and_shape_survive_what_augmentation_does(distance, scale):
    x = patch(distance)
    flat = distance.ndim == 2
    turns = [(0,), (40,), (130,)] if flat else [(0, 0, 0), (40, 0, 0), (20, 50, 70), (0, 0, 130)]
    before = named(x, 1.0)
    for turn in turns:
        after = named(moved(x, rotation(*turn), scale), 1 / scale if flat else None)
        assert after["size"] == pytest.approx(before["size"], abs=0.02)
        for name in ("surface", "second moment", "fourth moment"):
            assert after[name] == pytest.approx(before[name], abs=0.06), name
        for name in ("depth", "longest over shortest", "longest over middle")[: distance.ndim]:  # of whole voxels
            assert after[name] == pytest.approx(before[name], abs=0.12), name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_place_elsewhere_in_the_patch_changes_nothing_of_the_shape(dimensions):
    mask = np.zeros([36] * dimensions, bool)
    mask[(slice(8, 18), slice(10, 22), slice(9, 24))[:dimensions]] = True
    axes = tuple(range(dimensions))
    here, there = (named(patch(outline(np.roll(mask, shift[:dimensions], axes)))) for shift in ((0, 0, 0), (9, 4, 5)))
    for name in shape_names(dimensions):
        assert here[name] == pytest.approx(there[name], abs=1e-3), name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_image_changes_nothing_of_the_shape(dimensions):
    distance = ellipsoid((9, 6, 11)[:dimensions])
    x = patch(distance)
    other = x.clone()
    other[:, :-1] = 3.0 - 2.0 * patch(distance, seed=1)[:, :-1]
    one, other = lesion_measures(x), lesion_measures(other)
    shape = [names(4, dimensions).index(name) for name in shape_names(dimensions)]
    rest = [column for column in range(len(names(4, dimensions))) if column not in shape]
    assert torch.equal(one[:, shape], other[:, shape])
    assert (one[:, rest] != other[:, rest]).all()
