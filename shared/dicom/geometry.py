"""Positions of voxels: stack slices to a grid, reorient a volume to LPS, convert to and from SimpleITK.

Points are LPS `(x, y, z)` in mm as in DICOM PS3.3 C.7.6.2.1.1; arrays are `(..., z, y, x)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from shared.dicom.header import FileHeader
from shared.errors import StudyError
from shared.types import Grid

Points = npt.NDArray[np.float64]

_GAP_SHARE = 0.1  # tolerance of the distances between slices, as a share of the slice spacing
_GAP_MM = 0.1
_DIRECTION_TOLERANCE = 1e-3
_FRACTION_OF_SPACING = 0.01


def stack_slices(slices: Sequence[FileHeader]) -> tuple[list[FileHeader], Grid]:
    """Sort the slices of one phase along their normal, and return them with their grid in the acquired orientation.

    The slice spacing is computed from positions, never from SliceThickness (slices may overlap or have gaps).

    Raises
    ------
    StudyError
        `no_pixel_spacing`; `mixed_geometry`: slices differ in shape, spacing or direction; `duplicate_slices`: two
        slices have one position; `missing_slices`: unequal distances, or fewer than two slices.

    """
    first = slices[0]
    spacing = first.pixel_spacing
    if any(item.pixel_spacing is None or min(item.pixel_spacing) <= 0 for item in slices) or spacing is None:
        raise StudyError("no_pixel_spacing", "PixelSpacing is missing or zero; export the images with it")
    if any(item.position is None or item.orientation is None for item in slices) or first.orientation is None:
        raise StudyError("mixed_geometry", "a slice has no ImagePositionPatient or ImageOrientationPatient")
    unlike = [
        item
        for item in slices
        if (item.rows, item.columns) != (first.rows, first.columns)
        or not np.allclose(item.pixel_spacing or (), spacing, rtol=_FRACTION_OF_SPACING, atol=0.0)
        or not np.allclose(item.orientation or (), first.orientation, rtol=0.0, atol=_DIRECTION_TOLERANCE)
    ]
    if unlike:
        raise StudyError("mixed_geometry", f"{len(unlike)} of {len(slices)} slices of a phase differ from the first")
    direction = direction_of(first.orientation)
    points = np.array([item.position for item in slices], dtype=np.float64)
    order, step = sort_along(points, direction[:, 2])
    origin = points[order[0]]
    grid = Grid(
        shape=(len(slices), first.rows, first.columns),
        spacing=(step, spacing[0], spacing[1]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in direction.ravel()),
    )
    return [slices[index] for index in order], grid


def direction_of(orientation: Sequence[float]) -> Points:
    """Matrix `(3, 3)` whose columns are the x, y and slice axes, from ImageOrientationPatient.

    Raises `StudyError` (`mixed_geometry`) if the two directions are not orthogonal unit vectors.
    """
    row, column = np.array(orientation[:3], dtype=np.float64), np.array(orientation[3:], dtype=np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1.0) for length in lengths) > _FRACTION_OF_SPACING or abs(row @ column) > _FRACTION_OF_SPACING:
        raise StudyError("mixed_geometry", "ImageOrientationPatient does not hold two unit vectors at a right angle")
    row /= lengths[0]
    # Rounded directions are not exactly orthogonal, but the matrix must be a rotation.
    column -= (row @ column) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def sort_along(points: Points, normal: Points) -> tuple[list[int], float]:
    """Order of slice positions `(n, 3)` along a unit normal, and the distance between neighbours, mm.

    Raises `StudyError` as `stack_slices`; `mixed_geometry` also means slices that are shifted sideways.
    """
    if len(points) < 2:  # noqa: PLR2004 - one slice has no distance to a next
        raise StudyError("missing_slices", "a phase has a single slice")
    along = points @ normal
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    typical = float(np.median(steps))
    tolerance = max(_GAP_SHARE * typical, _GAP_MM)
    if steps.min() < min(0.5 * typical, tolerance) or typical <= 0:
        raise StudyError("duplicate_slices", "two different images lie at one position of a phase")
    uneven = int(np.sum(np.abs(steps - typical) > tolerance))
    if uneven:
        raise StudyError("missing_slices", f"{uneven} of {len(steps)} distances between slices differ from the others")
    sideways = points[order] - points[order[0]] - np.outer(along[order] - along[order[0]], normal)
    if np.abs(sideways).max() > tolerance:
        raise StudyError("mixed_geometry", "the slices of a phase are not stacked along their normal")
    return [int(index) for index in order], float(steps.mean())


def to_lps(array: npt.NDArray[Any], grid: Grid) -> tuple[npt.NDArray[Any], Grid]:
    """As `lps_view`, in memory of its own."""
    moved, turned = lps_view(array, grid)
    return np.ascontiguousarray(moved), turned


def lps_view(array: npt.NDArray[Any], grid: Grid) -> tuple[npt.NDArray[Any], Grid]:
    """Permute and flip the last three axes so that x grows to the left, y to posterior, z to superior, without a copy.

    Only the order of storage changes, no voxel's position in the patient. Oblique acquisitions keep their obliquity in
    `direction`. The result is that of SimpleITK's `DICOMOrient(image, "LPS")`, without conversion to an image.
    """
    direction = np.array(grid.direction).reshape(3, 3)
    columns = _nearest_axes(direction)  # for each patient axis x, y, z the index axis (0 = x) along it
    flips = [direction[axis, columns[axis]] < 0 for axis in range(3)]
    sizes = grid.shape[::-1]
    origin = np.array(grid.origin)
    for axis, column in enumerate(columns):
        if flips[axis]:
            origin = origin + direction[:, column] * grid.spacing[2 - column] * (sizes[column] - 1)
    turned = np.stack([direction[:, c] * (-1.0 if flips[a] else 1.0) for a, c in enumerate(columns)], axis=1)
    lead = array.ndim - 3
    # Array axes run z, y, x: patient axis a sits at lead + 2 - a, taken from index axis c at lead + 2 - c.
    moved = array.transpose(*range(lead), *(lead + 2 - columns[axis] for axis in (2, 1, 0)))
    index: tuple[Any, ...] = (..., *(slice(None, None, -1 if flips[axis] else 1) for axis in (2, 1, 0)))
    shape = tuple(sizes[columns[axis]] for axis in (2, 1, 0))
    spacing = tuple(grid.spacing[2 - columns[axis]] for axis in (2, 1, 0))
    result = Grid(
        shape=(shape[0], shape[1], shape[2]),
        spacing=(spacing[0], spacing[1], spacing[2]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) + 0.0 for value in turned.ravel()),  # + 0.0: no negative zero
    )
    return moved[index], result


def _nearest_axes(direction: Points) -> list[int]:
    """Index axis closest to each patient axis; the three are distinct."""
    left = np.abs(direction).copy()
    columns = [0, 0, 0]
    for _ in range(3):
        axis, column = (int(value) for value in np.unravel_index(int(np.argmax(left)), (3, 3)))
        columns[axis] = column
        left[axis, :] = -1.0
        left[:, column] = -1.0
    return columns


def orientation_of(grid: Grid) -> Literal["axial", "sagittal", "coronal"]:
    """Plane of the acquisition: the patient axis closest to the slice normal, for a grid before `to_lps`."""
    normal = np.abs(np.array(grid.direction).reshape(3, 3)[:, 2])
    planes: tuple[Literal["sagittal"], Literal["coronal"], Literal["axial"]] = ("sagittal", "coronal", "axial")
    return planes[int(np.argmax(normal))]


def same_in_plane(first: Grid, second: Grid) -> bool:
    """Say whether two volumes have the same rows, columns, spacing and direction; the number of slices may differ."""
    return (
        first.shape[1:] == second.shape[1:]
        and bool(np.allclose(first.spacing, second.spacing, rtol=_FRACTION_OF_SPACING, atol=0.0))
        and bool(np.allclose(first.direction, second.direction, rtol=0.0, atol=_DIRECTION_TOLERANCE))
    )


def from_image(image: Any) -> tuple[npt.NDArray[Any], Grid]:
    """Array `(z, y, x)` and grid of a 3D SimpleITK image, in the image's own orientation."""
    depth, height, width = image.GetSize()[::-1]
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    grid = Grid(
        shape=(depth, height, width),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(image.GetDirection()),
    )
    return sitk.GetArrayFromImage(image), grid
