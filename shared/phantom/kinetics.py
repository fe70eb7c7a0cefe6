"""Concentration of contrast agent: Parker's population input function and the extended Tofts model."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared.types import FloatArray

HAEMATOCRIT = 0.42
ARRIVAL_S = 15.0  # from injection into the arm's vein to arrival in the arteries of the breast, s
_STEP_MIN = 0.005
_LN_KEP = np.linspace(np.log(0.01), np.log(6.0), 161)

Doubles = npt.NDArray[np.float64]


def parker_blood(time_min: Doubles) -> Doubles:
    """Contrast agent in arterial blood, mmol/L, at `time_min` after its arrival.

    Parker et al., Magn Reson Med 2006;56:993, equation 2 and table 1: two Gaussians (first pass, recirculation) and an
    exponential wash-out behind a sigmoid.
    """
    first = 0.809 / (0.0563 * np.sqrt(2 * np.pi)) * np.exp(-((time_min - 0.17046) ** 2) / (2 * 0.0563**2))
    second = 0.330 / (0.132 * np.sqrt(2 * np.pi)) * np.exp(-((time_min - 0.365) ** 2) / (2 * 0.132**2))
    wash_out = 1.050 * np.exp(-0.1685 * time_min) / (1.0 + np.exp(-38.078 * (time_min - 0.483)))
    return np.where(time_min >= 0.0, first + second + wash_out, 0.0)


def parker_plasma(time_min: Doubles) -> Doubles:
    """Contrast agent in arterial plasma, mmol/L: it does not enter blood cells."""
    return parker_blood(time_min) / (1.0 - HAEMATOCRIT)


@lru_cache(maxsize=32)
def _exchange(times_s: tuple[float, ...]) -> Doubles:
    """Plasma curve convolved with `exp(-kep t)`, mmol/L min, `(kep, time)` over the tabulated values of kep."""
    kep = np.exp(_LN_KEP)
    end = max(0.0, max(times_s) - ARRIVAL_S) / 60.0
    grid = np.arange(0.0, end + 2 * _STEP_MIN, _STEP_MIN)
    plasma = parker_plasma(grid)
    at = (np.asarray(times_s) - ARRIVAL_S) / 60.0
    table = np.zeros((len(kep), len(at)))
    for row, rate in enumerate(kep):
        weighted = plasma * np.exp(rate * grid)
        total = np.concatenate([[0.0], np.cumsum((weighted[1:] + weighted[:-1]) * (_STEP_MIN / 2.0))])
        table[row] = np.where(at > 0, np.interp(at, grid, total) * np.exp(-rate * np.maximum(at, 0.0)), 0.0)
    return table


def tofts_concentration(
    times_s: tuple[float, ...], ktrans: FloatArray, kep: FloatArray, plasma_volume: FloatArray
) -> FloatArray:
    """Concentration, mmol/L, `(time, ...)`, by the extended Tofts model, `C = vp Cp + Ktrans (Cp * exp(-kep t))`.

    Maps of Ktrans and kep are per minute, plasma volume is a share (Tofts et al., J Magn Reson Imaging 1999;10:223).
    The convolution is tabulated once for `kep` from 0.01 to 6 per minute, so that a map of voxels costs one
    interpolation per phase.
    """
    table, plasma = _exchange(times_s), parker_plasma((np.asarray(times_s) - ARRIVAL_S) / 60.0)
    ln_kep = np.log(np.clip(kep, 0.01, 6.0))
    return np.stack(
        [
            plasma_volume * plasma[index] + ktrans * np.interp(ln_kep, _LN_KEP, table[:, index])
            for index in range(len(times_s))
        ]
    ).astype(np.float32)
