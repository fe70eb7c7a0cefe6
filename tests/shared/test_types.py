"""Grids."""

import numpy as np
import SimpleITK as sitk

from shared.types import Grid


def test_corners_agree_with_simpleitk():
    grid = Grid((3, 4, 5), (3.0, 2.0, 1.0), (10.0, -5.0, 2.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    image = sitk.Image(5, 4, 3, sitk.sitkUInt8)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    expected = [image.TransformIndexToPhysicalPoint((x, y, z)) for z in (0, 2) for y in (0, 3) for x in (0, 4)]
    assert np.allclose(grid.corners(), expected)


def test_same_space_needs_shape_and_every_corner():
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0))
    assert grid.same_space(Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.01, 0.0, 0.0)))
    assert not grid.same_space(Grid((4, 4, 5), (1.0, 1.0, 1.0)))
    assert not grid.same_space(Grid((4, 4, 4), (1.0, 1.0, 1.1)))
    assert not grid.same_space(Grid((4, 4, 4), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0)))


def test_voxel_volume_is_in_millilitres():
    assert Grid((1, 1, 1), (2.0, 5.0, 10.0)).voxel_volume_ml == 0.1
