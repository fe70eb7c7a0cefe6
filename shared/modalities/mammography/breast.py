"""Air, breast and chest wall of a mammogram, found in its pixels.

Air is the commonest grey of the image, as it is even and tissue is not. It is the darkest part of a mammogram that is
shown as it should be, and the brightest of one that is inverted. The breast is the largest piece that is brighter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

LONGEST = 512
"""Pixels along the longer side of the reduced image in which all this is decided."""
_EDGE = 0.03  # share of the columns that make an edge
_ENDS = (0.5, 99.5)  # percentiles that count as darkest and brightest
_BINS = 64
_DEVIATIONS = 4.0  # median deviations that air scatters by
_LEAST_AIR = 0.1  # share of the image
_STANDS_OUT = 0.05  # of the range of grey values, between air and what is no air
_CLEARLY = 4.0  # so many times more pixels on one side of air's level than on the other
_LEAST_BREAST = 0.03  # share of the image
_THINNEST = 0.016  # of the longer side: labels, frames of a film and their threads to the breast are thinner
_ALIKE = 0.8  # from this ratio on the breast touches both edges alike
_PADDED = 0.5


@dataclass(frozen=True, slots=True)
class Reduced:
    """A mammogram averaged over squares of `factor` pixels, float32 `(y, x)`; NaN where most of a square is padding."""

    grey: FloatArray
    factor: int
    shape: tuple[int, int]

    def enlarged(self, mask: BoolArray) -> BoolArray:
        """A mask of the reduced image on the image's own pixels."""
        rows, columns = (np.minimum(np.arange(size) // self.factor, size // self.factor - 1) for size in self.shape)
        return np.asarray(mask[rows][:, columns])


def reduced_image(values: FloatArray, padding: BoolArray) -> Reduced:
    """Average a mammogram over squares, so that its longer side has at most about `LONGEST` pixels."""
    factor = max(1, -(-max(values.shape) // LONGEST))
    factor = min(factor, *values.shape)
    rows, columns = (size // factor for size in values.shape)

    def squares(array: npt.NDArray[np.float32]) -> FloatArray:
        cut = array[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
        return np.asarray(cut.mean(axis=(1, 3)), np.float32)

    kept = 1.0 - squares(padding.astype(np.float32))
    with np.errstate(divide="ignore", invalid="ignore"):
        grey = squares(np.where(padding, np.float32(0), values)) / kept
    return Reduced(np.where(kept > _PADDED, grey, np.nan).astype(np.float32), factor, values.shape)


@dataclass(frozen=True, slots=True)
class Air:
    """Grey level of air, the level up to which it scatters, and whether it is the dark end (or the bright one)."""

    level: float
    reaches: float
    dark: bool


def find_air(reduced: Reduced) -> Air:
    """Find air in the image.

    Where air is padding, the pixels beside padding stand for it: the breast is thinnest at its skin.

    Raises
    ------
    StudyError
        `blank_image`: nothing stands out. `unclear_background`: no level has nearly all else on one side of it.

    """
    grey = reduced.grey
    known = grey[~np.isnan(grey)]
    low, high = np.percentile(known, _ENDS) if known.size else (0.0, 0.0)
    if not high > low:
        raise StudyError("blank_image", "no breast stands out in it; fetch the image again, or take it out")
    margin = _STANDS_OUT * float(high - low)
    counts, edges = np.histogram(known, _BINS, (low, high))
    commonest = int(counts.argmax())
    level = float(np.median(known[(known >= edges[commonest]) & (known <= edges[commonest + 1])]))
    levels = [level] if np.mean(np.abs(known - level) <= margin) > _LEAST_AIR else []
    padding = np.isnan(grey)
    if padding.mean() > _LEAST_AIR:
        levels.insert(0, float(np.median(grey[ndimage.binary_dilation(padding) & ~padding])))
    for level in levels:
        brighter, darker = int(np.sum(known > level + margin)), int(np.sum(known < level - margin))
        if max(brighter, darker) >= max(_LEAST_BREAST * grey.size, _CLEARLY * min(brighter, darker)):
            beyond = (level - known) if brighter > darker else (known - level)
            scatter = _DEVIATIONS * float(np.median(beyond[beyond > 0])) if (beyond > 0).any() else 0.0
            return Air(level, level + max(scatter, 0.5 * margin), brighter > darker)
    raise StudyError(
        "unclear_background",
        "no background of air is seen, so its PhotometricInterpretation cannot be checked; give the whole image",
    )


def find_breast(reduced: Reduced, air: Air) -> BoolArray:
    """Mask of the breast on the reduced image, in which it is brighter than air; labels and frames are left out.

    Raises `StudyError` (`no_breast_found`).
    """
    grey = reduced.grey
    tissue = grey > air.reaches  # false where NaN
    radius = max(1, round(_THINNEST * max(grey.shape)))
    near = np.arange(-radius, radius + 1)
    disk = near[:, None] ** 2 + near[None, :] ** 2 <= radius**2
    pieces, _ = ndimage.label(ndimage.binary_opening(tissue, disk))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if sizes.max() < _LEAST_BREAST * grey.size:
        raise StudyError(
            "no_breast_found", f"the largest bright piece fills {sizes.max() / grey.size:.1%} of the image"
        )
    largest = pieces == int(sizes.argmax())
    near_it = ndimage.binary_dilation(largest, iterations=radius) & tissue
    return np.asarray(ndimage.binary_dilation(ndimage.binary_fill_holes(near_it | largest)))


def chest_wall_is_right(breast: BoolArray) -> bool:
    """Whether the breast touches the right edge of the image rather than the left one.

    Raises `StudyError` (`no_breast_found`) where it touches both alike, or none.
    """
    width = max(1, round(_EDGE * breast.shape[1]))
    left, right = float(breast[:, :width].mean()), float(breast[:, -width:].mean())
    if min(left, right) >= _ALIKE * max(left, right):
        raise StudyError("no_breast_found", "the breast touches both edges of the image alike, or neither")
    return right > left
