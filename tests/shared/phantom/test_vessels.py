"""Vessel trees: connected, tapered, in their breast; drawn with their own cross-section."""

import numpy as np
import pytest
from scipy.ndimage import label

from shared.phantom.breasts import draw_breasts
from shared.phantom.vessels import draw_vessels, feeding_vessel, grow_tree
from shared.types import Grid


def test_vessels_are_connected_to_their_roots_and_to_the_lesion():
    rng = np.random.default_rng(6)
    breast = draw_breasts(rng, "b")[0]
    points, radius = grow_tree(rng, breast)
    target = np.array(breast.centre) + np.array([0.0, -25.0, 5.0])
    feeder, width = feeding_vessel(rng, points, target, 0.9)
    every = np.concatenate([points, feeder])
    grid = Grid((130, 120, 160), (1.0, 1.0, 1.0), (-10.0, -80.0, -65.0))
    volume = draw_vessels(grid, every, np.concatenate([radius, width])) > 0.02
    parts, count = label(volume, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count <= 4  # one tree per root
    assert sizes.min() > 20
    index = np.rint((target[::-1] - np.array(grid.origin)[::-1]) / 1.0).astype(int)
    assert parts[tuple(index)] > 0


def test_vessels_stay_within_the_breasts_surface_and_are_thin():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        breast = draw_breasts(rng, "c")[1]
        points, radius = grow_tree(rng, breast)
        u, v, w = (np.abs(points - np.array(breast.centre)) / np.array(breast.semi_axes)).T
        relative = ((u**2 + w**2) ** (breast.exponent / 2) + v**breast.exponent) ** (1 / breast.exponent)
        assert relative.max() <= 0.93 + 1e-6
        assert radius.min() >= 0.4
        assert radius.max() <= 1.7


def test_a_feeding_vessel_leads_from_the_nearest_point_of_the_tree_to_the_lesion():
    tree = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    points, radius = feeding_vessel(np.random.default_rng(0), tree, np.array([30.0, 0.0, 0.0]), 0.9)
    assert points[0].tolist() == pytest.approx([10.0, 0.0, 0.0])
    assert points[-1].tolist() == pytest.approx([30.0, 0.0, 0.0], abs=1e-9)
    assert (radius == 0.9).all()
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() < 5.0


def test_a_point_fills_its_voxel_and_none_outside_the_grid():
    grid = Grid((5, 7, 7), (1.0, 1.0, 1.0))
    volume = draw_vessels(grid, np.array([[3.0, 3.0, 2.0], [-50.0, 0.0, 0.0]]), np.array([1.0, 1.0]))
    # Variance 1/4 + 1/9 along each axis: the peak is 1 / (2 * 0.3611) = 1.38, cut at 1; one voxel off exp(-1.385).
    assert volume[2, 3, 3] == pytest.approx(1.0)
    assert volume[2, 3, 4] == pytest.approx(np.exp(-1 / (2 * (0.25 + 1 / 9))), rel=1e-5)
    assert volume[2, 3, 6] == 0.0
    assert (volume[:, :, 0] == 0.0).all()
