"""Body against air in a breast MRI volume, whatever the fat suppression and the coil's shading."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

SMOOTHING_MM = 2.0  # standard deviation of the smoothing before the threshold: noise must not pierce suppressed fat
FAINTEST = 0.01  # share of the bright tissue below which everything is air; keeps zero-filled air from being a class
ONE_CLASS, TWO_CLASSES = 0.78, 0.88  # `otsu`'s share below which values are one class, above which clearly two
SMALLEST_BODY = 0.03  # share of the field that the body fills at least


def find_body(volume: FloatArray, spacing: tuple[float, ...]) -> BoolArray:
    """Body against air, bool `(z, y, x)`; whatever lies behind the body's front counts as body (lung is dark).

    Otsu's threshold (1979) on the logarithm: suppressed fat is many times darker than gland but still well above air,
    and a coil's shading is a shift there and not a stretch. Where the darker class is clearly two itself, fat has
    fallen in with air, and the class is divided once more.

    Raises
    ------
    StudyError
        `no_breast_found`: nothing stands out from air.

    """
    smooth = ndimage.gaussian_filter(volume, [SMOOTHING_MM / step for step in spacing])
    bright = float(np.percentile(smooth, 99.0))
    if not np.isfinite(bright) or bright <= 0.0:
        raise StudyError("no_breast_found", "the volume is empty: no tissue stands out from air")
    logarithm = np.log(np.maximum(smooth, FAINTEST * bright))
    # Corners that the scanner filled with zeros are no measurement: they must not become a class below noise.
    measured = logarithm[volume > 0.0]
    threshold, separation = otsu(measured)
    if separation < ONE_CLASS:
        raise StudyError("no_breast_found", "no tissue stands out from air: the volume is noise, or has no air at all")
    lower, separation = otsu(measured[measured <= threshold])
    if separation > TWO_CLASSES:
        threshold = lower
    found, _ = ndimage.label(logarithm > threshold)
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST_BODY * volume.size:
        raise StudyError("no_breast_found", f"the largest body fills {sizes.max() / volume.size:.1%} of the volume")
    body: BoolArray = np.logical_or.accumulate(found == int(sizes.argmax()), axis=1)
    return body


def otsu(values: FloatArray) -> tuple[float, float]:
    """Threshold with the largest variance between its two classes, and that variance's share of the whole (Otsu 1979).

    The share is 0.64 for one normal class, 0.75 for an even spread, and nears 1 for two narrow classes.
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
    # Every threshold inside an empty gap is as good: its middle is the least brittle.
    best = np.nonzero(variance >= variance.max() * (1.0 - 1e-9))[0]
    return float(edges[1:-1][best].mean()), float(variance.max() / max(float(np.var(values)), 1e-12))
