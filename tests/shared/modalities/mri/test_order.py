"""Which phases are read of an exam with more than are kept."""

import numpy as np

from shared.modalities.mri.order import choose_times


def test_an_ultrafast_hybrid_keeps_its_wash_out():
    times = [6.0 * index for index in range(1, 16)] + [90.0 + 70.0 * index for index in range(1, 6)]
    chosen = [times[index] for index in choose_times(times, 8)]
    assert len(chosen) == 8
    assert chosen == sorted(chosen)
    assert {6.0, 90.0, 160.0, 230.0, 440.0} <= set(chosen)


def test_values_at_the_times_of_reading_are_those_of_all_phases():
    rng = np.random.default_rng(3)
    for _ in range(50):
        times = np.cumsum(rng.uniform(3, 40, 30))
        curve = rng.random(30)
        chosen = choose_times(times.tolist(), 8)
        for at in (120.0, 225.0):
            assert np.interp(at, times[chosen], curve[chosen]) == np.interp(at, times, curve)


def test_few_phases_are_all_kept():
    assert choose_times([80.0, 200.0], 8) == [0, 1]
