"""The signal at fixed times after injection, so that a lesion does not change with the protocol of its exam.

Straight lines between phases would do for protocols of short phases only: with two phases at 150 and 450 s nothing is
measured before 150 s, and wash-out is no straight line. Instead the uptake at a time is the combination of the uptakes
of all phases with the least expected square error over enhancement curves as breasts have them:
`(1 - exp(-t / rise)) exp(-t / decay)` after the contrast agent's arrival, the empirical model of Fan et al., Magn Reson
Med 2004;51:487-94, in Jansen et al., Magn Reson Med 2008;59:747-54 for breast lesions. The weights depend on the times
alone, so they are the same for every voxel, and what does not enhance stays as it was before contrast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.types import FloatArray

FIRST_S, LAST_S = 120.0, 225.0
"""Times read, s after injection. Cancers peak within two minutes, where BI-RADS (2013) and EUSOBI (Mann et al., Eur
Radiol 2008;18:1307-18) have the end of the early phase; 225 s is late enough to show wash-out, and nearly every
protocol is still measuring, or has measured shortly before."""
NOISE = 0.02  # standard deviation of a phase, as a share of the peak uptake of a lesion
MOST_ERROR = 0.12
"""Expected error of the signal at a time, as a share of the peak uptake, up to which it is read. Two phases of 225 s
are still read (0.11), and an exam that ends at 120 s (0.12), but not one that ends at 90 s (0.24)."""

_ARRIVALS_S = (10.0, 20.0, 30.0)
_RISES_S = np.geomspace(5.0, 240.0, 12)
_DECAYS_S = (np.inf, *np.geomspace(200.0, 3000.0, 8))
_PEAKS_S = np.arange(0.0, 600.0, 5.0)  # where the peak of a curve is sought
_DECIMALS = 6  # of a weight, so that every platform has the same

Doubles = npt.NDArray[np.float64]


def fixed_times(count: int) -> tuple[float, ...]:
    """`count` evenly spaced times from `FIRST_S` to `LAST_S`, s after injection; the first alone for one."""
    return tuple(np.linspace(FIRST_S, LAST_S, count).tolist())


def time_weights(post_times_s: Sequence[float], wanted_s: Sequence[float]) -> Doubles:
    """Weights `(wanted, post)` that combine the uptakes of post-contrast phases to the uptakes at the wanted times.

    Raises
    ------
    StudyError
        `missing_phase`: the phases do not tell the signal at one of the times with an expected error of `MOST_ERROR`.

    """
    peaks = _curves(_PEAKS_S).max(axis=1, keepdims=True)
    seen, sought = _curves(post_times_s) / peaks, _curves(wanted_s) / peaks
    noise = NOISE**2 * np.eye(len(post_times_s))
    weights = np.linalg.solve(seen.T @ seen / len(peaks) + noise, seen.T @ sought / len(peaks)).T.round(_DECIMALS)
    errors = np.sqrt(np.square(sought - seen @ weights.T).mean(axis=0) + NOISE**2 * np.square(weights).sum(axis=1))
    worst = int(errors.argmax())
    if errors[worst] > MOST_ERROR:
        times = " and ".join(f"{time:.0f}" for time in sorted({post_times_s[0], post_times_s[-1]}))
        raise StudyError(
            "missing_phase",
            f"post-contrast phases at {times} s after injection (first and last) do not tell the signal at "
            f"{wanted_s[worst]:.0f} s: expected error {errors[worst]:.2f} of the peak uptake, above {MOST_ERROR}; "
            "export all phases, check their times, or set preprocessing.post_phases = 1, which reads "
            f"{FIRST_S:.0f} s alone",
        )
    return weights


def at_times(phases: npt.NDArray[np.floating[Any]], weights: Doubles) -> FloatArray:
    """Signal before contrast and at the times of the weights, float32 `(1 + wanted, ...)`, of phases `(1 + post, ...)`.

    Nothing of the size of all phases is allocated.
    """
    signal: FloatArray = np.empty((1 + len(weights), *phases.shape[1:]), np.float32)
    signal[:] = phases[0]
    for number, phase in enumerate(phases[1:]):
        uptake = np.subtract(phase, phases[0], dtype=np.float32)
        for place, weight in enumerate(weights[:, number].astype(np.float32), start=1):
            signal[place] += weight * uptake
    return signal


def _curves(times_s: Sequence[float] | Doubles) -> Doubles:
    """Uptake of every curve `(curve, time)`."""
    arrival, rise, decay = (part.reshape(-1, 1) for part in np.meshgrid(_ARRIVALS_S, _RISES_S, _DECAYS_S))
    after = np.maximum(np.asarray(times_s, np.float64) - arrival, 0.0)
    return np.asarray((1.0 - np.exp(-after / rise)) * np.exp(-after / decay))
