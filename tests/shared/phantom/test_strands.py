"""Curves drawn into a picture keep their volume and their place."""

import numpy as np
import pytest

from shared.phantom.breasts import draw_breasts
from shared.phantom.compression import compress
from shared.phantom.strands import draw_strands, draw_tree, grow_strands, pulled, splat


@pytest.fixture
def geometry():
    rng = np.random.default_rng(3)
    return compress(rng, draw_breasts(rng, "b")[0], "CC", 0.45, (210.0, 150.0))


def straight(geometry):
    """A curve of 20 mm in the plane of the plates."""
    start = np.array(geometry.breast.centre) - [0.0, 40.0, 0.0]
    return start + np.linspace(0.0, 20.0, 24)[:, None] * np.array([1.0, 0.0, 0.0])


def test_a_drawn_amount_is_shared_by_the_four_nearest_pixels():
    picture = splat((4, 5), np.array([[1.25, 2.5], [9.0, 9.0]]), np.array([8.0, 3.0]))
    expected = np.zeros((4, 5))
    expected[1, 2:4], expected[2, 2:4] = 3.0, 1.0
    np.testing.assert_allclose(picture, expected)


def test_a_curves_path_holds_its_volume(geometry):
    picture = draw_strands(geometry, (straight(geometry)[None], np.full((1, 24), 1.5)))
    volume = picture.sum() * geometry.pixel**2
    assert volume == pytest.approx(20.0 * 1.5 * geometry.stretch, rel=1e-3)
    (start, end), _ = geometry.project(straight(geometry)[[0, -1]])
    rows, columns = np.nonzero(picture)
    assert rows.min() >= np.floor(min(start[0], end[0])) - 1
    assert rows.max() <= np.ceil(max(start[0], end[0])) + 1
    assert np.ptp(columns) <= 8


def test_branches_of_a_tree_are_not_joined(geometry):
    points = np.concatenate([straight(geometry), straight(geometry) + np.array([0.0, 15.0, 0.0])])
    picture = draw_tree(geometry, points, np.full(len(points), 0.8))
    (first, second), _ = geometry.project(points[[23, 24]])
    middle = np.rint(0.5 * (first + second)).astype(int)
    assert picture.sum() > 0.0
    assert picture[middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3].max() == 0.0


def test_a_cancer_draws_curves_towards_itself():
    away = np.indices((40, 40), dtype=np.float32) - 20.0
    line = np.array([[20.0, 30.0], [10.0, 20.0]])
    moved = pulled(line, 0.3 * away)
    assert (np.linalg.norm(moved - 20.0, axis=1) < np.linalg.norm(line - 20.0, axis=1)).all()


def test_ducts_converge_on_the_nipple():
    breast = draw_breasts(np.random.default_rng(1), "b")[1]
    ducts = grow_strands(np.random.default_rng(2), breast)[0][0]
    distance = np.linalg.norm(ducts - np.array(breast.nipple), axis=-1)
    assert distance[:, 0].max() < 9.0
    assert distance[:, -1].min() > 12.0
