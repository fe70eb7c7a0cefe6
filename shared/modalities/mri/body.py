"""Separate body from air in a breast MRI volume, with or without fat suppression and shading."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

SMOOTHING_MM = 2.0  # standard deviation before the threshold, so that noise makes no holes in suppressed fat
FAINTEST = 0.01  # floor, as a share of bright tissue, so that air filled with zeros is no class of its own
ONE_CLASS, TWO_CLASSES = 0.78, 0.88  # `otsu`'s share below which there is one class, above which there are clearly two
SMALLEST_BODY = 0.03  # least share of the field of view that the body fills


def find_body(volume: FloatArray, spacing: tuple[float, ...]) -> BoolArray:
    """Mask of the body, bool `(z, y, x)`; everything behind the front of the body belongs to it, also dark lung.

    Otsu's threshold (1979) is applied to the logarithm, because suppressed fat is many times darker than gland but well
    above air, and because shading shifts a logarithm. If the darker class is clearly two classes itself, fat was
    assigned to air, and the class is divided again. Raises `StudyError` (`no_breast_found`) where no tissue can be
    distinguished from air.
    """
    smooth = ndimage.gaussian_filter(volume, [SMOOTHING_MM / step for step in spacing])
    bright = float(np.percentile(smooth, 99.0))
    if not np.isfinite(bright) or bright <= 0.0:
        raise StudyError("no_breast_found", "the volume is empty: no tissue stands out from air")
    logarithm = np.log(np.maximum(smooth, FAINTEST * bright))
    # Corners that the scanner filled with zeros are excluded, as they would be a class below noise.
    measured = logarithm[volume > 0.0]
    threshold, separation = otsu(measured)
    if separation < ONE_CLASS:
        raise StudyError("no_breast_found", "no tissue stands out from air: the volume is noise, or has no air at all")
    lower, separation = otsu(measured[measured <= threshold])
    if separation > TWO_CLASSES:
        threshold = lower
    pieces, _ = ndimage.label(logarithm > threshold)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST_BODY * volume.size:
        raise StudyError("no_breast_found", f"the largest body fills {sizes.max() / volume.size:.1%} of the volume")
    body: BoolArray = np.logical_or.accumulate(pieces == int(sizes.argmax()), axis=1)
    return body


def otsu(values: FloatArray) -> tuple[float, float]:
    """Threshold with the largest variance between two classes, and its share of the total variance (Otsu 1979).

    The share is 0.64 for one normal distribution, 0.75 for a uniform one, and near 1 for two narrow classes.
    """
    counts, edges = np.histogram(values, 256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1].astype(np.float64)
    mass = np.cumsum(counts * centres)
    above = counts.sum() - below
    valid = (below > 0) & (above > 0)
    if not valid.any():
        return float(edges[-1]), 0.0
    variance = np.zeros_like(below)
    mean_below, mean_above = mass[:-1][valid] / below[valid], (mass[-1] - mass[:-1][valid]) / above[valid]
    variance[valid] = below[valid] * above[valid] * (mean_below - mean_above) ** 2 / float(counts.sum()) ** 2
    # All thresholds inside an empty gap are equally good; the middle one is the most robust.
    best = np.nonzero(variance >= variance.max() * (1.0 - 1e-9))[0]
    return float(edges[1:-1][best].mean()), float(variance.max() / max(float(np.var(values)), 1e-12))
