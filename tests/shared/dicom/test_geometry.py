"""Orientation against SimpleITK's own, and the arithmetic of slice positions."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from shared.dicom.geometry import direction_of, from_image, orientation_of, sort_along, to_lps
from shared.errors import StudyError
from shared.types import Grid
from tests.images import to_image

SIGNED_PERMUTATIONS = [
    np.diag(signs)[:, list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


def oblique(degrees_x, degrees_z):
    """Rotation by small angles about x, then z."""
    a, b = np.deg2rad([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (8.0, -5.0), (-20.0, 14.0)])
def test_turned_to_lps_as_simpleitk_does(tilt):
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    for matrix in SIGNED_PERMUTATIONS:
        if np.linalg.det(matrix) < 0:
            continue  # SimpleITK takes proper rotations only
        grid = Grid((4, 5, 6), (2.0, 1.5, 0.75), (3.0, -4.0, 5.0), tuple((oblique(*tilt) @ matrix).ravel()))
        turned, lps = to_lps(array, grid)
        reference, reference_grid = from_image(sitk.DICOMOrient(to_image(array, grid), "LPS"))
        np.testing.assert_array_equal(turned, reference)
        assert lps.shape == reference_grid.shape
        assert lps.spacing == reference_grid.spacing
        np.testing.assert_allclose(lps.origin, reference_grid.origin, atol=1e-9)
        np.testing.assert_allclose(lps.direction, reference_grid.direction, atol=1e-12)


def test_no_voxel_moves_in_the_patient():
    rng = np.random.default_rng(3)
    for matrix in SIGNED_PERMUTATIONS:  # mirrored index axes as well
        grid = Grid((3, 4, 5), (2.0, 1.5, 0.75), (3.0, -4.0, 5.0), tuple(matrix.ravel()))
        array = rng.random((2, 3, 4, 5))
        turned, lps = to_lps(array, grid)
        assert lps.direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        z, y, x = 1, 3, 2
        point = np.array(grid.origin) + matrix @ (np.array([x, y, z]) * grid.spacing[::-1])
        at = np.rint((point - lps.origin) / np.array(lps.spacing[::-1])).astype(int)
        np.testing.assert_array_equal(turned[:, at[2], at[1], at[0]], array[:, z, y, x])
        assert turned.flags["C_CONTIGUOUS"]


def test_grid_to_image_and_back():
    grid = Grid((3, 4, 5), (2.0, 1.5, 0.75), (3.0, -4.0, 5.0), (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    back, back_grid = from_image(to_image(array, grid))
    np.testing.assert_array_equal(back, array)
    assert back_grid == grid
    mask, _ = from_image(to_image(array > 30, grid))
    np.testing.assert_array_equal(mask, (array > 30).astype(np.uint8))


@given(
    st.lists(st.floats(0.5, 5.0), min_size=1, max_size=1),
    st.integers(2, 40),
    st.randoms(use_true_random=False),
    st.floats(-300, 300),
)
def test_positions_come_back_in_order_with_their_distance(step, count, random, start):
    order = list(range(count))
    random.shuffle(order)
    normal = np.array([0.6, 0.0, 0.8])
    points = np.array([start * normal + np.array([0.0, 7.0, 0.0]) + place * step[0] * normal for place in order])
    found, distance = sort_along(points, normal)
    assert [order[index] for index in found] == list(range(count))
    assert distance == pytest.approx(step[0])


@pytest.mark.parametrize(
    ("along", "reason"),
    [
        ([0.0], "missing_slices"),
        ([0.0, 2.0, 4.0, 8.0], "missing_slices"),
        ([0.0, 2.0, 4.0, 6.5], "missing_slices"),
        ([0.0, 2.0, 2.0, 4.0], "duplicate_slices"),
        ([0.0, 0.0, 0.0], "duplicate_slices"),
    ],
)
def test_gaps_and_doubles_along_the_normal(along, reason):
    points = np.array([[1.0, 2.0, value] for value in along])
    with pytest.raises(StudyError) as caught:
        sort_along(points, np.array([0.0, 0.0, 1.0]))
    assert caught.value.reason == reason


def test_slices_that_drift_sideways_are_no_volume():
    points = np.array([[0.5 * place, 0.0, 2.0 * place] for place in range(5)])
    with pytest.raises(StudyError) as caught:
        sort_along(points, np.array([0.0, 0.0, 1.0]))
    assert caught.value.reason == "mixed_geometry"


def test_direction_columns_are_row_column_and_normal():
    np.testing.assert_array_equal(
        direction_of([0, 1, 0, 0, 0, -1]), np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], dtype=float)
    )


@pytest.mark.parametrize("cosines", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 0]])
def test_impossible_directions_are_refused(cosines):
    with pytest.raises(StudyError) as caught:
        direction_of(cosines)
    assert caught.value.reason == "mixed_geometry"


def test_plane_by_the_nearest_axis_of_the_normal():
    for cosines, plane in (([1, 0, 0, 0, 0.9, 0.436], "axial"), ([0, 1, 0, 0, 0, -1], "sagittal")):
        direction = direction_of(np.concatenate([np.array(cosines[:3]), np.array(cosines[3:]) / 1.00005]))
        assert orientation_of(Grid((2, 2, 2), (1.0, 1.0, 1.0), direction=tuple(direction.ravel()))) == plane
