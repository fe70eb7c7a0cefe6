"""Channels of a DCE-MRI exam on one scale: pre-contrast, first uptake, and later changes.

MR intensities have no unit. All phases of an exam are divided by the same reference level, so subtractions remain
meaningful. The scales of the plan, the same at all sites, then bring the channels close to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

STRONGEST_PERCENTILE = 99.9  # uptakes above it count as much as it does, so that one spike is not the level


def reference_level(pre: FloatArray, uptake: FloatArray, breast: BoolArray) -> float:
    """Reference level of an exam: the pre-contrast signal of the tissue that takes up contrast agent.

    It is the median of `pre` in the breast, weighted by the cube of `uptake`; all are `(z, y, x)`. What enhances is
    water (gland, lesion, vessels), whose T1 before contrast is much the same. Fat that is not suppressed and silicone
    are brighter and do not enhance, so they have no weight. A percentile of `pre` would be their level: in 36 phantom
    exams with a residual fat of 1.0, uptake relative to the 90th was 0.23 to 0.62 of that with 0.1; relative to this
    level it is 0.87 to 1.05 (docs/experiments.md). Raises `StudyError` (`preprocessing_failed`) for a breast without
    signal or uptake.
    """
    brighter = breast & (uptake > 0.0)
    if not brighter.any():
        raise StudyError(
            "preprocessing_failed", "nothing in the breast is brighter after contrast: are the phases in order?"
        )
    values, weights = pre[brighter], uptake[brighter].astype(np.float64)
    weights = np.minimum(weights, np.percentile(uptake[breast], STRONGEST_PERCENTILE)) ** 3
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    level = float(values[order[np.searchsorted(cumulated, 0.5 * cumulated[-1])]])
    if not np.isfinite(level) or level <= 0.0:
        raise StudyError("preprocessing_failed", "the breast has no signal before contrast")
    return level


def to_channels(phases: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Convert phases `(1 + post, ...)` to channels of the same shape: pre, post1 - pre, post2 - post1, post3 - post1.

    Later changes are relative to the first post-contrast phase, so their sign tells rising, plateau and wash-out curves
    apart (Kuhl, Radiology 1999;211:101-10), for any number of phases.
    """
    channels: FloatArray = phases.astype(np.float32)
    channels[2:] -= phases[1]
    channels[1] -= phases[0]
    return channels


def scale_channels(
    channels: FloatArray, low: Sequence[float], high: Sequence[float], scale: Sequence[float]
) -> FloatArray:
    """Clip each channel of `(channel, z, y, x)` to the plan's range, then divide it by the plan's scale.

    Nothing is subtracted, so air, padding and "no change" remain 0, and a change of gain remains a factor.
    """
    per_channel = [np.asarray(values, np.float32).reshape(-1, 1, 1, 1) for values in (low, high, scale)]
    scaled: FloatArray = np.clip(channels, per_channel[0], per_channel[1]) / per_channel[2]
    return scaled
