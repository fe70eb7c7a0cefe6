"""Radiomic measures of an outline in one view, the baseline that every network of mammograms has to beat.

They are few, as a linear model of a hundred cases can use no more: shape, grey values (elongation and first order as
the Image Biomarker Standardisation Initiative has them, Zwanenburg et al., Radiology 2020;295(2):328-38), texture, and
what readers describe (BI-RADS 2013): margin, spicules, calcifications. None changes where an image is mirrored.

Lengths are in the image's own pixels or shares of it, since films do not tell how large pixels are: of the square
around a lesion, which is its box and a fixed margin, a larger lesion has a larger share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

NAMES = (
    *("shape_Share", "shape_Length", "shape_Elongation", "shape_Roundness"),
    *("grey_Mean", "grey_Deviation", "grey_Skewness", "grey_10Percentile", "grey_90Percentile"),
    *("texture_Difference1", "texture_Difference3"),
    *("core_less_rim", "lesion_less_surroundings", "surroundings_deviation"),
    *("spicules", "foci_mean", "foci_most"),
)
"""Names of the measures, in the order of `radiomic_measures`."""
_RIM = 1 / 3  # its depth, and the width of the surroundings, in radii of a disc of the outline's area
_SURROUNDINGS = 1.0
_STEPS = 1, 3  # between pixels that are compared, pixels
_FOCUS = 5  # brighter spots that are narrower count as foci, pixels
_MOST = 99.5  # percentile
_LEAST = 1e-12

_Numbers = npt.NDArray[np.float64]


def radiomic_measures(image: FloatArray, outline: BoolArray) -> FloatArray:
    """Measure what lies in an outline, and around it.

    Parameters
    ----------
    image
        float32 `(y, x)`.
    outline
        bool `(y, x)`.

    Returns
    -------
    float32 `(len(NAMES),)`, always finite; grey values, their differences and foci in units of `image`. Without a core
    or surroundings, those of the whole outline are taken.

    Raises
    ------
    StudyError
        `empty_mask`: no pixel lies in the outline.

    """
    if not outline.any():
        raise StudyError("empty_mask", "no pixel of the square lies inside the outline")
    grey = image.astype(np.float64)
    rim, core, around = _shells(outline)
    inside = grey[outline]
    deviation = float(inside.std())
    skewness = float(((inside - inside.mean()) ** 3).mean()) / max(deviation**3, _LEAST)
    foci = (grey - ndimage.grey_opening(grey, (_FOCUS, _FOCUS)))[outline | around]
    measures = [
        *_shape(outline),
        *(inside.mean(), deviation, skewness, *np.percentile(inside, (10, 90))),
        *(_difference(grey, outline, step) for step in _STEPS),
        *(grey[core].mean() - grey[rim].mean(), inside.mean() - grey[around].mean(), grey[around].std()),
        *(_spicules(grey, outline, around), foci.mean(), np.percentile(foci, _MOST)),
    ]
    return np.array(measures, np.float32)


def _shape(outline: BoolArray) -> tuple[float, float, float, float]:
    """Share of the image, longest side over the image's, minor over major axis, and 1 for a disc, less for others.

    The perimeter is Crofton's: lines in four directions, `n` crossings each, give `pi / 8` times the sum of `n` times
    their distance.
    """
    points = np.argwhere(outline).astype(np.float64)
    length = float(np.ptp(points, axis=0).max()) + 1.0
    minor, major = np.linalg.eigvalsh(np.cov(points.T, bias=True)) if len(points) > 1 else (0.0, 0.0)
    elongation = float(np.sqrt(max(minor, 0.0) / major)) if major > 0 else 1.0
    wide = np.pad(outline, 1)
    straight = int((wide[1:] ^ wide[:-1]).sum() + (wide[:, 1:] ^ wide[:, :-1]).sum())
    diagonal = int((wide[1:, 1:] ^ wide[:-1, :-1]).sum() + (wide[1:, :-1] ^ wide[:-1, 1:]).sum())
    perimeter = np.pi / 8 * (straight + diagonal / np.sqrt(2))
    roundness = 2 * float(np.sqrt(np.pi * len(points)) / perimeter)
    return len(points) / outline.size, length / max(outline.shape), elongation, roundness


def _shells(outline: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Rim and core of the outline, and its surroundings."""
    radius = float(np.sqrt(outline.sum() / np.pi))
    depth = ndimage.distance_transform_edt(np.pad(outline, 1))[1:-1, 1:-1]
    beyond = ndimage.distance_transform_edt(~outline)
    core = depth > max(1.0, _RIM * radius)
    around = ~outline & (beyond <= max(1.0, _SURROUNDINGS * radius))
    shells = outline & ~core, core, around
    rim, core, around = (shell if shell.any() else outline for shell in shells)
    return rim, core, around


def _difference(grey: _Numbers, outline: BoolArray, step: int) -> float:
    """Root mean square difference of pixels in a row or column of the outline that are `step` apart."""
    pairs = [
        (values[step:] - values[:-step])[inside[step:] & inside[:-step]]
        for values, inside in ((grey, outline), (grey.T, outline.T))
    ]
    both = np.concatenate(pairs)
    return float(np.sqrt((both**2).mean())) if both.size else 0.0


def _spicules(grey: _Numbers, outline: BoolArray, around: BoolArray) -> float:
    """Share of the edges around the outline that run to its centre: 0.5 without order, 1 of a star, 0 of rings."""
    slopes: _Numbers = np.asarray(np.gradient(grey))[:, around]
    away = np.argwhere(around).T - np.argwhere(outline).mean(axis=0)[:, None]
    distance = np.maximum(np.hypot(*away), _LEAST)
    across = (slopes[0] * away[1] - slopes[1] * away[0]) / distance
    total = float((slopes**2).sum())
    return float((across**2).sum()) / total if total > _LEAST else 0.5
