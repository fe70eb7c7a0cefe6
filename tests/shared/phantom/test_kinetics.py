"""The input function and the tissue model against independent scalar implementations."""

import math

import numpy as np
import pytest

from shared.phantom.kinetics import ARRIVAL_S, HAEMATOCRIT, parker_blood, parker_plasma, tofts_concentration


def scalar_parker(t):
    """Parker et al. 2006, table 1, written term by term; t in minutes, mmol/L."""
    a1, a2, t1, t2, s1, s2 = 0.809, 0.330, 0.17046, 0.365, 0.0563, 0.132
    alpha, beta, s, tau = 1.050, 0.1685, 38.078, 0.483
    gauss = a1 / (s1 * math.sqrt(2 * math.pi)) * math.exp(-((t - t1) ** 2) / (2 * s1**2))
    gauss += a2 / (s2 * math.sqrt(2 * math.pi)) * math.exp(-((t - t2) ** 2) / (2 * s2**2))
    return gauss + alpha * math.exp(-beta * t) / (1 + math.exp(-s * (t - tau)))


def test_input_function_equals_the_published_formula():
    times = np.linspace(0.0, 6.0, 61)
    assert parker_blood(times) == pytest.approx([scalar_parker(float(t)) for t in times], rel=1e-12)


def test_first_pass_peaks_near_6_mmol_at_10_seconds():
    # By hand at t = 0.17046 min: 0.809 / (0.0563 * 2.5066) = 5.73, plus 0.34 of the recirculation's rise.
    times = np.linspace(0.0, 1.0, 6001)
    curve = parker_blood(times)
    assert curve.max() == pytest.approx(6.07, abs=0.05)
    assert times[curve.argmax()] * 60.0 == pytest.approx(10.3, abs=0.3)


def test_nothing_before_arrival_and_plasma_is_richer_than_blood():
    assert parker_blood(np.array([-1.0, -0.01])).tolist() == [0.0, 0.0]
    assert parker_plasma(np.array([1.0])) == pytest.approx(parker_blood(np.array([1.0])) / (1 - HAEMATOCRIT))


@pytest.mark.parametrize(("ktrans", "kep", "plasma"), [(0.2, 0.6, 0.04), (0.05, 0.1, 0.0), (0.3, 2.0, 0.1)])
def test_tofts_table_equals_a_direct_convolution(ktrans, kep, plasma):
    times = (85.0, 170.0, 255.0)
    maps = [np.array([value], np.float32) for value in (ktrans, kep, plasma)]
    table = tofts_concentration(times, *maps)[:, 0]
    for time, value in zip(times, table, strict=True):
        end = (time - ARRIVAL_S) / 60.0
        steps = 20_000
        width = end / steps
        middle = [(k + 0.5) * width for k in range(steps)]
        total = sum(scalar_parker(t) * math.exp(-kep * (end - t)) for t in middle) * width
        expected = (plasma * scalar_parker(end) + ktrans * total) / (1 - HAEMATOCRIT)
        assert value == pytest.approx(expected, rel=2e-3)


def test_before_arrival_tissue_is_empty():
    one = np.ones(1, np.float32)
    assert tofts_concentration((ARRIVAL_S - 5.0, 60.0), one, one, one)[0, 0] == 0.0
