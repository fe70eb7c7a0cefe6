"""Linear resampling between axis-aligned grids with exact positions.

Linear interpolation on such grids is separable, with one small sparse matrix per axis. A case and its prediction are
resampled by the same function, so both use the same definition of a voxel's centre. The sparse product of scipy uses
one thread and a fixed order, so the bytes of the result do not depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from shared.types import BoolArray, FloatArray

ALIASING = 1.5  # a target that is this many times coarser than its source is smoothed
HALF = 0.5  # share of lesion at which a resampled voxel belongs to it


@dataclass(frozen=True, slots=True)
class Axis:
    """Evenly spaced points along one axis: `count` voxel centres, the first at `start` mm, `step` mm apart."""

    start: float
    step: float
    count: int


def axis_weights(source: Axis, target: Axis) -> sparse.csr_array:
    """Sparse float32 matrix `(target.count, source.count)` of the linear interpolation from one axis to another.

    If the target is more than `ALIASING` times coarser, it averages with a triangle as wide as its voxels, like the
    antialiased linear filters of Pillow and torch. Points up to half a source voxel beyond the outer centres have the
    value of the outer voxel, as they lie inside it; points farther out have an empty row, that is 0.
    """
    coarser = target.step / source.step
    radius = coarser if coarser > ALIASING else 1.0
    centre = (target.start - source.start + np.arange(target.count) * target.step) / source.step
    inside = (centre > -0.5 - 1e-6) & (centre < source.count - 0.5 + 1e-6)
    centre = np.clip(centre, 0.0, source.count - 1.0)
    reach = int(np.ceil(radius))
    column = np.floor(centre).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)[None, :]
    weight = np.clip(1.0 - np.abs(column - centre[:, None]) / radius, 0.0, None)
    weight[(column < 0) | (column >= source.count)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    weight[~inside] = 0.0
    row, place = np.nonzero(weight > 1e-7)  # noqa: PLR2004 - rounding at coinciding positions
    values = weight[row, place].astype(np.float32)
    return sparse.csr_array((values, (row, column[row, place])), shape=(target.count, source.count))


def resample(volume: FloatArray, source: Sequence[Axis], target: Sequence[Axis]) -> FloatArray:
    """Interpolate float32 `(channel, z, y, x)` from axes `(z, y, x)` of `source` to those of `target`; 0 outside."""
    result = np.asarray(volume, np.float32)
    # From x to z: each axis is moved to the front, where the matrix is applied.
    for number in (3, 2, 1):
        matrix = axis_weights(source[number - 1], target[number - 1])
        moved = np.moveaxis(result, number, 0)
        shape = moved.shape[1:]
        mixed = matrix @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        result = np.moveaxis(mixed.reshape(-1, *shape), 0, number)
    return np.ascontiguousarray(result, np.float32)


def resample_mask(mask: BoolArray, source: Sequence[Axis], target: Sequence[Axis]) -> BoolArray:
    """Interpolate a mask `(z, y, x)` with a threshold of one half, which keeps the surface in place.

    A lesion smaller than the new voxels may reach one half nowhere; it then becomes the voxel that it fills most, so
    that no lesion inside the target vanishes.
    """
    share = resample(mask[None].astype(np.float32), source, target)[0]
    result: npt.NDArray[np.bool_] = share >= HALF - 1e-6
    if not result.any() and share.max() > 0.0:
        result[np.unravel_index(int(share.argmax()), share.shape)] = True
    return result
