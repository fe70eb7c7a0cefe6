"""The healthy patient: tissue shares of every voxel."""

import numpy as np
import pytest

from shared.phantom.anatomy import _smooth_union, _width_across, build_anatomy
from shared.phantom.breasts import draw_breasts
from shared.types import Grid

GRID = Grid((24, 40, 64), (4.8, 3.8, 4.0), (-128.0, -77.0, -55.0))


@pytest.fixture(scope="module")
def anatomy():
    rng = np.random.default_rng(0)
    return build_anatomy(rng, GRID, draw_breasts(rng, "b"))


def test_shares_are_shares_and_add_up_to_the_body(anatomy):
    total = sum(anatomy.fractions.values())
    assert all((share >= 0).all() for share in anatomy.fractions.values())
    assert total.max() == pytest.approx(1.0, abs=1e-5)
    assert (total[anatomy.surface > 6.0] > 0.999).all()
    assert (total[anatomy.surface < -6.0] == 0.0).all()


def test_each_breast_lies_on_its_side_in_front_of_the_muscle(anatomy):
    x = GRID.origin[0] + GRID.spacing[2] * np.arange(GRID.shape[2])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        inside = anatomy.breast[side]
        assert inside.any()
        assert (sign * x[np.nonzero(inside)[2]] > 0).all()
        assert (anatomy.wall[inside] < 5.0).all()
        assert (anatomy.surface[inside] > 0.0).all()


def test_gland_lies_in_the_breasts_and_lung_heart_and_bone_behind_them(anatomy):
    inside = anatomy.breast["left"] | anatomy.breast["right"]
    assert (anatomy.fractions["gland"][~inside] == 0).all()
    assert anatomy.fractions["gland"][inside].sum() > 0
    for tissue in ("lung", "blood", "bone"):
        assert (anatomy.fractions[tissue][inside] < 1e-6).all()
        assert anatomy.fractions[tissue].sum() > 0


def test_skin_covers_the_body(anatomy):
    at_surface = (anatomy.surface > 0.0) & (anatomy.surface < 1.0)
    deep = anatomy.surface > 12.0
    assert anatomy.fractions["skin"][at_surface].mean() > 0.3
    assert anatomy.fractions["skin"][deep & (anatomy.fractions["skin"] < 0.99)].max() < 0.01


def test_the_same_generator_gives_the_same_patient():
    first, second = (build_anatomy(np.random.default_rng(3), GRID, ()) for _ in range(2))
    assert all(np.array_equal(first.fractions[name], second.fractions[name]) for name in first.fractions)


def test_width_across_an_oblique_plane_by_hand():
    grid = Grid((9, 9, 9), (1.0, 1.0, 1.0))
    z, y, _ = np.mgrid[0:9, 0:9, 0:9].astype(np.float32)
    # A cube across its edges' diagonal plane is sqrt(2) wide; along an axis 1.
    assert _width_across((z + y) / np.float32(np.sqrt(2)), grid)[4, 4, 4] == pytest.approx(np.sqrt(2), rel=1e-4)
    assert _width_across(z, grid)[4, 4, 4] == pytest.approx(1.0, rel=1e-4)


def test_smooth_union_rounds_only_where_the_depths_are_alike():
    first = np.array([5.0, 5.0, -3.0], np.float32)
    second = np.array([-20.0, 5.0, 30.0], np.float32)
    # At equal depths the fillet adds a quarter of its width.
    assert _smooth_union(first, second, 16.0).tolist() == pytest.approx([5.0, 9.0, 30.0])
