"""The shape of the breasts: surface, depth and side by hand."""

import numpy as np
import pytest

from shared.phantom.breasts import Breast, breast_depth, draw_breasts, torso_front
from shared.types import Grid

SPHERE = Breast("left", (70.0, 10.0, 0.0), (50.0, 50.0, 50.0), 2.0, "b")


def test_place_reaches_the_surface_of_a_sphere_and_the_nipple():
    directions = np.array([[0.0, -1.0, 0.0], [0.6, -0.8, 0.0], [0.0, -0.6, 0.8]])
    points = SPHERE.place(directions, np.array([1.0, 1.0, 0.5]))
    assert points[0].tolist() == pytest.approx(list(SPHERE.nipple))
    distances = np.linalg.norm(points - np.array(SPHERE.centre), axis=1)
    assert distances == pytest.approx([50.0, 50.0, 25.0])


def test_place_lies_on_the_superellipsoid():
    breast = Breast("right", (-70.0, 5.0, 3.0), (55.0, 70.0, 45.0), 1.8, "c")
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    u, v, w = (np.abs(breast.place(directions, np.ones(50)) - np.array(breast.centre)) / np.array(breast.semi_axes)).T
    assert (u**2 + w**2) ** 0.9 + v**1.8 == pytest.approx(np.ones(50))


def test_depth_is_zero_at_the_nipple_and_grows_inwards():
    grid = Grid((61, 81, 61), (1.0, 1.0, 1.0), (40.0, -60.0, -30.0))
    depth, radius = breast_depth(SPHERE, grid, np.zeros(grid.shape, np.float32))
    column = slice(None)
    at_nipple = depth[30, column, 35]  # x = 75 lies under the nipple, as a breast hangs 5 mm outwards
    y = grid.origin[1] + np.arange(81.0)
    assert float(np.interp(0.0, at_nipple[:50], y[:50])) == pytest.approx(SPHERE.nipple[1], abs=1.0)
    assert radius[30, column, 35][20] == pytest.approx(1.0, abs=0.02)
    assert (np.diff(at_nipple[10:50]) > 0).all()


def test_torso_is_a_half_ellipse():
    # y = 105 (1 - sqrt(1 - (x / 175)^2)); at x = 105 the root is 0.8.
    assert torso_front(np.array([0.0, 105.0, -105.0])) == pytest.approx([0.0, 21.0, 21.0])


def test_left_and_right_are_alike_but_never_equal():
    for seed in range(20):
        left, right = draw_breasts(np.random.default_rng(seed), "b")
        assert (left.side, right.side, left.lateral, right.lateral) == ("left", "right", 1.0, -1.0)
        assert left.centre[0] == pytest.approx(-right.centre[0], abs=8.0)
        assert left.semi_axes == pytest.approx(right.semi_axes, rel=0.35)
        assert left.semi_axes != right.semi_axes


def test_fatty_breasts_are_larger():
    def volumes(density):
        pairs = [draw_breasts(np.random.default_rng(seed), density) for seed in range(30)]
        return np.mean([np.prod(breast.semi_axes) for pair in pairs for breast in pair])

    assert volumes("a") > volumes("b") > volumes("c") > volumes("d")
