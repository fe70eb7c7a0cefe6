"""Which connected pieces of a network's probabilities are the predicted lesion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.config.run_config import RunConfig
from shared.metrics.overlap import CUBE
from shared.types import BoolArray, FloatArray


def candidates(
    probability: FloatArray, spacing: tuple[float, float, float], config: RunConfig
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Connected pieces of `(z, y, x)` probabilities above the threshold and of some size, and how certain each is.

    Returns
    -------
    Labels from 1 on, `(z, y, x)`, 0 outside, and the mean probability of each piece, `(piece,)`.

    """
    pieces, number = ndimage.label(probability >= config.inference.threshold, CUBE)
    voxels = np.bincount(pieces.ravel(), minlength=number + 1)
    certainty = np.bincount(pieces.ravel(), weights=probability.ravel(), minlength=number + 1) / np.maximum(voxels, 1)
    large = voxels * float(np.prod(spacing)) / 1000.0 >= config.inference.min_lesion_ml
    large[0] = False
    renumbered = np.cumsum(large).astype(np.int32) * large
    return renumbered[pieces], certainty[large]


def certain_pieces(pieces: npt.NDArray[np.int32], certainty: npt.NDArray[np.float64], config: RunConfig) -> BoolArray:
    """Mask `(z, y, x)` of those `candidates` that are at least `relative_certainty` times as certain as the largest.

    At a centre with stronger background enhancement gland is taken for lesion, but less surely than the lesion itself.
    The largest piece, the first of several, is the measure and always kept: a speck, however certain, is none for it.
    """
    if not len(certainty):
        return np.zeros(pieces.shape, np.bool_)
    largest = int(np.bincount(pieces.ravel())[1:].argmax())
    kept = np.concatenate([[False], certainty >= config.inference.relative_certainty * certainty[largest]])
    mask: BoolArray = kept[pieces]
    return mask
