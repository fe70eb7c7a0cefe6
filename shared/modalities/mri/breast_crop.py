"""Find one breast in a DCE-MRI volume without a network, in bilateral and unilateral fields of view.

The front surface of the body is a height map over `(z, x)` with two bumps, and a valley at the sternum between them.
The breast is what stands out from the chest. The box extends behind the front of the chest, because lesions may lie on
the pectoral muscle. In LPS, anterior is small `y` and left is large `x`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.errors import StudyError
from shared.modalities.mri.body import find_body
from shared.modalities.mri.dce_study import DceStudy
from shared.types import BoolArray, FloatArray, Side

Window = tuple[slice, slice, slice]
DoubleArray = npt.NDArray[np.float64]

WORKING_MM = 2.4  # finer voxels are averaged to about this size, at which the surface is smooth
BILATERAL_MM = 210.0  # fields of view wider than this hold both breasts
CHEST_RADIUS_MM = 200.0  # radius of curvature of an adult's chest across the midline
FLATTER_MM = 25.0  # largest distance of a chest in front of that circle
RISE_MM = 8.0  # least height above the chest of a column of the breast
LEAST_RISE_MM = 15.0  # least height of a whole breast, prone
LEAST_AREA_MM2 = 1500.0  # least area of a breast on the chest
CLEAR_VALLEY_MM = 10.0  # least depth of a valley that is taken for the sternum
SKIN_MM = 3.0
MARGIN_MM = 10.0  # margin above, below and beside the breast
FRONT_MARGIN_MM = 5.0
PECTORAL_MM = 15.0  # extent of the box behind the front of the chest


@dataclass(frozen=True, slots=True)
class BreastBox:
    """One breast in a volume; `bilateral` says whether the field of view holds both.

    `window` are slices `(z, y, x)` of the breast with margins, in the study's voxels. `breast` is its approximate mask
    without skin, bool `(z, y, x)` in the window; for statistics, not as an outline. `half` are the study's columns on
    the breast's side of the sternum, with a margin; all where the field of view holds one breast.
    """

    window: Window
    breast: BoolArray
    bilateral: bool
    half: slice


@dataclass(frozen=True, slots=True)
class _Front:
    """Front surface of the body on the working grid, in mm from the first voxel.

    `height` is the `y` of the surface, `(z, x)`, or `depth`, the depth of the field of view, where there is no body.
    `x` are the positions of the columns.
    """

    height: DoubleArray
    body: BoolArray
    x: DoubleArray
    depth: float


def find_breast(study: DceStudy, side: Side) -> BreastBox:
    """Find the breast of `side`; a unilateral field of view has only one breast, which is taken for it.

    Raises `StudyError` (`no_breast_found`) with the reason.
    """
    spacing = study.grid.spacing
    factors = [max(1, min(int(WORKING_MM / step), size)) for step, size in zip(spacing, study.grid.shape, strict=True)]
    coarse = _block_mean(study.phases.mean(axis=0), factors)
    steps = tuple(step * factor for step, factor in zip(spacing, factors, strict=True))
    front = _front(find_body(coarse, steps), steps)
    bilateral = study.grid.shape[2] * spacing[2] > BILATERAL_MM
    middle = find_midline(front.height, front.x) if bilateral else float(front.x[0 if side == "left" else -1])
    distance = (front.x - middle) * (1.0 if side == "left" else -1.0)
    level = _sternum_level(front, distance) if bilateral else _border_level(front, side)
    chest = np.array([chest_front(level, float(far)) for far in distance])
    columns = _bump(front, chest, distance, steps)

    rows, crossed = np.nonzero(columns.any(axis=1))[0], np.nonzero(columns.any(axis=0))[0]
    # A percentile, because the depth grows with the square of the distance, and a few outer columns would determine it.
    lateral = float(np.percentile(np.broadcast_to(distance, columns.shape)[columns], 95.0))
    low, high = crossed[0] * steps[2] - MARGIN_MM, (crossed[-1] + 1) * steps[2] + MARGIN_MM
    bounds = (
        (rows[0] * steps[0] - MARGIN_MM, (rows[-1] + 1) * steps[0] + MARGIN_MM),
        (front.height[columns].min() - FRONT_MARGIN_MM, chest_front(level, lateral) + PECTORAL_MM),
        (max(low, middle - MARGIN_MM), high) if side == "left" else (low, min(high, middle + MARGIN_MM)),
    )
    window = _window(bounds, study.grid.shape, spacing)
    y = (np.arange(coarse.shape[1]) + 0.5) * steps[1]
    inside = columns[:, None, :] & (y[None, :, None] > front.height[:, None, :] + SKIN_MM)
    inside &= (y[:, None] < chest) & front.body
    half = slice(0, study.grid.shape[2])
    if bilateral:
        inner = (middle - MARGIN_MM, np.inf) if side == "left" else (0.0, middle + MARGIN_MM)
        half = _window((*bounds[:2], inner), study.grid.shape, spacing)[2]
    return BreastBox(window, _enlarge(inside, factors, study.grid.shape)[window], bilateral, half)


def chest_front(level: float, distance: float) -> float:
    """`y` of the front of the chest, mm, at a distance from the midline: a circle that recedes to the side."""
    return level + max(0.0, distance) ** 2 / (2.0 * CHEST_RADIUS_MM)


def find_midline(height: DoubleArray, x: DoubleArray) -> float:
    """Position of the sternum along x, mm: the valley between two bumps, or the middle of the body without a valley.

    `height` is the `y` of the front surface, `(z, x)`, mm; `x` are the evenly spaced positions of its columns, mm.
    """
    profile = np.percentile(height, 10.0, axis=0)
    profile = ndimage.gaussian_filter1d(profile, 5.0 / (x[1] - x[0]), mode="nearest")
    touched = np.nonzero(height.min(axis=0) < height.max())[0]
    middle = int(touched[0] + touched[-1]) // 2 if touched.size else len(x) // 2
    first = int(np.argmin(profile[:middle])) if middle else 0
    second = middle + int(np.argmin(profile[middle:]))
    between = profile[first : second + 1]
    if between.max() - max(profile[first], profile[second]) < CLEAR_VALLEY_MM:
        return float(x[middle])
    floor = np.nonzero(between > between.max() - 1.0)[0]
    return float(x[first] + (x[1] - x[0]) * 0.5 * (floor[0] + floor[-1]))


def _front(body: BoolArray, steps: tuple[float, ...]) -> _Front:
    depth = body.shape[1] * steps[1]
    height = np.where(body.any(axis=1), body.argmax(axis=1) * steps[1], depth)
    return _Front(height, body, (np.arange(body.shape[2], dtype=np.float64) + 0.5) * steps[2], depth)


def _sternum_level(front: _Front, distance: DoubleArray) -> float:
    """`y` of the skin over the sternum, mm: the median over the columns at the midline."""
    return float(np.median(front.height[:, np.abs(distance) <= max(5.0, float(np.abs(distance).min()))]))


def _border_level(front: _Front, side: Side) -> float:
    """`y` of the skin of the chest around the only breast, mm: the deepest of the upper, lower and medial borders.

    A narrow field of view may cut through the breast at a border, where the surface is not that of the chest. The
    deepest border at worst gives a box that is too large.
    """
    borders = (front.height[0], front.height[-1], front.height[:, 0 if side == "left" else -1])
    levels = [float(np.median(border[border < front.depth])) for border in borders if (border < front.depth).any()]
    return max(levels, default=front.depth)


def _bump(front: _Front, chest: DoubleArray, distance: DoubleArray, steps: tuple[float, ...]) -> BoolArray:
    """Columns `(z, x)` of the breast: the largest connected piece that stands out from the chest on its side."""
    # Above and below the breast, the surface is the chest: a torso flatter than the circle must not count as breast.
    seen = np.percentile(np.where(front.height < front.depth, front.height, 0.0), 95.0, axis=0)
    # If that surface lies far in front of the circle, the field of view does not reach beyond the breast.
    chest = np.where((seen < chest) & (seen > chest - FLATTER_MM), seen, chest)
    rise = np.where(distance > 0.0, chest - front.height, 0.0)
    pieces, count = ndimage.label(rise > RISE_MM)
    if count == 0:
        raise StudyError("no_breast_found", "nothing stands out in front of the chest on this side")
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    columns: BoolArray = pieces == int(areas.argmax())
    area, highest = float(areas.max()) * steps[0] * steps[2], float(rise[columns].max())
    if highest < LEAST_RISE_MM or area < LEAST_AREA_MM2:
        raise StudyError(
            "no_breast_found",
            f"what stands out most on this side rises {highest:.0f} mm over {area / 100:.0f} cm²: no breast",
        )
    return columns


def _block_mean(volume: FloatArray, factors: list[int]) -> FloatArray:
    """Average blocks of voxels; the volume is padded with its last voxels."""
    padding = [(0, -size % factor) for size, factor in zip(volume.shape, factors, strict=True)]
    padded = np.pad(volume, padding, mode="edge") if any(after for _, after in padding) else volume
    z, y, x = (size // factor for size, factor in zip(padded.shape, factors, strict=True))
    blocks: FloatArray = padded.reshape(z, factors[0], y, factors[1], x, factors[2]).mean(axis=(1, 3, 5))
    return blocks


def _enlarge(mask: BoolArray, factors: list[int], shape: tuple[int, int, int]) -> BoolArray:
    for axis, factor in enumerate(factors):
        mask = np.repeat(mask, factor, axis=axis)
    return mask[: shape[0], : shape[1], : shape[2]]


def _window(
    bounds: tuple[tuple[float, float], ...], shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Window:
    """Slices that contain the bounds (mm from the edge of the first voxel), clipped to the volume."""
    parts = []
    for (low, high), size, step in zip(bounds, shape, spacing, strict=True):
        first = min(max(0, int(np.floor(low / step))), size - 1)
        parts.append(slice(first, max(first + 1, min(size, int(np.ceil(min(high, size * step) / step))))))
    return parts[0], parts[1], parts[2]
