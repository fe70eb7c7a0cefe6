"""Paths through gland, lumps and muscle."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from shared.phantom.compression import compress
from shared.phantom.mammogram_tissue import draw_texture, gland_path, interpolate, lump_path, muscle_path
from shared.phantom.parenchyma import GLAND_SHARE


@pytest.fixture(scope="module")
def texture():
    return draw_texture(np.random.default_rng(2))


def views(body, pixel=0.6):
    breast = next(item for item in body.breasts if item.side == body.side)
    return [compress(np.random.default_rng(4), breast, view, pixel, (210.0, 150.0)) for view in ("CC", "MLO")]


def test_interpolation_on_a_lattice_is_that_of_scipy():
    field = np.random.default_rng(1).standard_normal((9, 7)).astype(np.float32)
    rows, columns = np.linspace(-0.5, 8.5, 23), np.linspace(0.0, 6.0, 17)
    expected = map_coordinates(field, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="constant")
    inside = (rows >= 0.0) & (rows <= 8.0)
    given = interpolate(field, rows, columns)
    np.testing.assert_allclose(given[inside], expected[inside], atol=1e-5)
    assert np.abs(given[~inside]).max() == 0.0


def test_texture_has_unit_variance(texture):
    for pair in (texture.isotropic, texture.cells, texture.streaks):
        assert all(field.dtype == np.float32 and field.std() == pytest.approx(1.0, abs=1e-3) for field in pair)


@pytest.mark.parametrize("patient", [("C", 1), ("B", 0), ("A", 1)], ids=["a", "b", "c"])
def test_gland_keeps_the_share_that_it_has_in_the_mri(taken, texture, patient):
    body, _ = taken(*patient)
    geometry = views(body)[0]
    whole, _ = geometry.thickness_map()
    still = np.zeros((2, *geometry.shape), np.float32)
    path = gland_path(np.random.default_rng(3), geometry, body.anatomy, texture, whole=whole, pull=still)
    assert ((path >= 0.0) & (path <= whole + 1e-3)).all()
    # Septa are counted, the subcutaneous fat of the rim weighs less than in the body, and the back is cut off.
    assert path.sum() / whole.sum() == pytest.approx(GLAND_SHARE[body.labels.density], abs=0.10)


def test_muscle_is_at_the_top_of_mlo_and_hardly_in_cc(taken, texture):
    cc, mlo = views(taken("B", 0)[0])
    rng = np.random.default_rng(6)
    of_cc, of_mlo = (muscle_path(rng, geometry, texture, geometry.thickness_map()[0]) for geometry in (cc, mlo))
    assert of_mlo[:40, :20].mean() > 10.0
    assert of_mlo[-60:].max() == 0.0
    assert of_mlo.sum() > 5.0 * of_cc.sum()


def test_lumps_are_where_the_anatomy_has_them(taken):
    body, _ = taken("A", 0)
    geometry = views(body)[0]
    whole, _ = geometry.thickness_map()
    path = lump_path(geometry, body.anatomy, whole)
    assert ((path >= 0.0) & (path <= whole + 1e-3)).all()
    node = body.anatomy.fractions["node"] * body.anatomy.breast[body.side]
    z, y, x = np.unravel_index(np.argmax(node), node.shape)
    grid = body.anatomy.grid
    point = np.array(grid.origin) + np.array([x, y, z]) * np.array(grid.spacing)[::-1]
    (at,), _ = geometry.project(point[None])
    row, column = np.rint(at).astype(int)
    if 5 < column < path.shape[1] - 5:
        assert path[row - 4 : row + 5, column - 4 : column + 5].max() > 0.5
