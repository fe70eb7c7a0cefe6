"""Images of SimpleITK for tests."""

import numpy as np
import SimpleITK as sitk


def to_image(array, grid):
    """Image of an array `(z, y, x)` on a grid."""
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image
