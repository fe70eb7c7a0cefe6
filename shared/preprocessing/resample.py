"""Linear resampling between axis-aligned grids, exact in position.

Linear interpolation on such grids is separable: one small sparse matrix an axis, whose rows say which voxels make
which. A case and its prediction go through the same function, so both ways share one definition of where a voxel's
centre lies. scipy's sparse product runs on one thread in a fixed order: the same bytes whatever the number of cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from shared.types import BoolArray, FloatArray

ALIASING = 1.5  # a target this many times coarser than its source is smoothed on the way
HALF = 0.5  # share of lesion from which a resampled voxel belongs to it


@dataclass(frozen=True, slots=True)
class Axis:
    """Evenly spaced points along one axis: `count` voxel centres, the first at `start` mm, `step` mm apart."""

    start: float
    step: float
    count: int


def axis_weights(source: Axis, target: Axis) -> sparse.csr_array:
    """Sparse float32 matrix `(target.count, source.count)` that interpolates linearly from one axis to the other.

    A target more than `ALIASING` times coarser averages with a triangle as wide as its own voxels, as Pillow's and
    torch's antialiased linear filters do. Points up to half a source voxel beyond the outer centres take the outer
    voxel, as they still lie inside it; points farther out get an empty row, that is 0.
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
    row, place = np.nonzero(weight > 1e-7)  # noqa: PLR2004 - rounding's leftovers at exactly shared positions
    values = weight[row, place].astype(np.float32)
    return sparse.csr_array((values, (row, column[row, place])), shape=(target.count, source.count))


def resample(volume: FloatArray, source: Sequence[Axis], target: Sequence[Axis]) -> FloatArray:
    """Interpolate float32 `(channel, z, y, x)` from axes `(z, y, x)` of `source` to those of `target`; 0 outside."""
    result = np.asarray(volume, np.float32)
    # From x to z: the matrices act on the first of two dimensions, so each axis is brought there in turn.
    for number in (3, 2, 1):
        matrix = axis_weights(source[number - 1], target[number - 1])
        moved = np.moveaxis(result, number, 0)
        shape = moved.shape[1:]
        mixed = matrix @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        result = np.moveaxis(mixed.reshape(-1, *shape), 0, number)
    return np.ascontiguousarray(result, np.float32)


def resample_mask(mask: BoolArray, source: Sequence[Axis], target: Sequence[Axis]) -> BoolArray:
    """Interpolate a mask `(z, y, x)` and cut it at one half: the surface stays where it was.

    A lesion smaller than the new voxels reaches one half nowhere; its fullest voxel then stands for it, so that no
    lesion inside the target vanishes.
    """
    share = resample(mask[None].astype(np.float32), source, target)[0]
    result: npt.NDArray[np.bool_] = share >= HALF - 1e-6
    if not result.any() and share.max() > 0.0:
        result[np.unravel_index(int(share.argmax()), share.shape)] = True
    return result
