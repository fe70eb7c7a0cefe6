"""One curve seen by many protocols is one curve at the fixed times."""

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.kinetics import MOST_ERROR, at_times, fixed_times, time_weights

WANTED = fixed_times(2)
PROTOCOLS = {
    "1+2": (150.0, 450.0),
    "1+3": (85.0, 170.0, 255.0),
    "1+3, short": (75.0, 150.0, 225.0),
    "1+3, long": (108.0, 216.0, 324.0),
    "1+5": (85.0, 170.0, 255.0, 340.0, 425.0),
    "hybrid": (*np.arange(6.0, 91.0, 6.0), 160.0, 230.0, 300.0, 370.0, 440.0),
    "hybrid, some": (6.0, 30.0, 60.0, 90.0, 160.0, 230.0, 300.0, 440.0),
}


def tofts(times_s, kep, arrival_s=15.0):
    """Uptake by Tofts and Kermode (Magn Reson Med 1991;17:357) with Weinmann's plasma, per minute: not our curves."""
    minutes = np.maximum(np.asarray(times_s) - arrival_s, 0.0) / 60.0
    plasma = ((3.99, 0.144), (4.78, 0.0111))
    return sum(a * kep * (np.exp(-m * minutes) - np.exp(-kep * minutes)) / (kep - m) for a, m in plasma)


def late_change(signal):
    return (signal[-1] - signal[0]) / signal[0]


def test_times_are_evenly_spaced_from_120_to_225_s():
    assert fixed_times(1) == (120.0,)
    assert fixed_times(2) == (120.0, 225.0)
    assert fixed_times(3) == (120.0, 172.5, 225.0)


@pytest.mark.parametrize("kep", [0.16, 0.3, 0.6, 1.0, 1.7])
@pytest.mark.parametrize("arrival_s", [10.0, 25.0])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_lesion_does_not_change_with_the_protocol(name, kep, arrival_s):
    times = PROTOCOLS[name]
    truth = tofts(WANTED, kep, arrival_s)
    read = time_weights(times, WANTED) @ tofts(times, kep, arrival_s)
    np.testing.assert_allclose(read, truth, atol=0.05 * tofts(np.arange(600.0), kep, arrival_s).max())
    # Of a slow lesion's late change of +0.5 two phases of five minutes tell less.
    assert late_change(read) == pytest.approx(late_change(truth), abs=0.16 if name == "1+2" else 0.05)


def test_straight_lines_would_not_do():
    # Before the first of two phases, at 150 s, a straight line from the agent's arrival reads far too little.
    times, kep = PROTOCOLS["1+2"], 1.0
    truth, seen = late_change(tofts(WANTED, kep)), tofts(times, kep)
    straight = np.interp(WANTED, (15.0, *times), (0.0, *seen))
    assert abs(late_change(straight) - truth) > 0.1
    assert abs(late_change(time_weights(times, WANTED) @ seen) - truth) < 0.05


def test_more_phases_make_less_noise():
    few, many = (np.square(time_weights(PROTOCOLS[name], WANTED)).sum(axis=1) for name in ("1+3", "hybrid"))
    assert (many < 0.7 * few).all()


@pytest.mark.parametrize(
    "times", [(90.0,), (30.0, 90.0), tuple(np.arange(6.0, 49.0, 6.0)), (300.0, 600.0), (0.0, 300.0)]
)
def test_an_exam_that_does_not_tell_is_left_out_with_the_remedy(times):
    with pytest.raises(StudyError, match="post_phases = 1, which reads 120 s alone") as caught:
        time_weights(times, WANTED)
    assert caught.value.reason == "missing_phase"
    assert str(MOST_ERROR) in str(caught.value)


def test_one_time_needs_a_phase_near_it():
    assert time_weights((90.0,), fixed_times(1)) == pytest.approx(1.03, abs=0.02)
    with pytest.raises(StudyError, match="120 s"):
        time_weights((45.0,), fixed_times(1))


def test_weights_combine_uptakes_and_what_does_not_enhance_stays():
    phases = np.array([[10.0, 7.0], [14.0, 7.0], [20.0, 7.0]], np.float32)
    signal = at_times(phases, np.array([[0.5, 0.25], [-1.0, 2.0], [0.0, 0.0]]))
    assert signal.tolist() == [[10.0, 7.0], [14.5, 7.0], [26.0, 7.0], [10.0, 7.0]]
    assert signal.dtype == np.float32


def test_weights_are_the_same_every_time_and_of_six_decimals():
    weights = time_weights((85.0, 170.0, 255.0), WANTED)
    np.testing.assert_array_equal(weights, time_weights((85.0, 170.0, 255.0), WANTED))
    np.testing.assert_array_equal(weights, weights.round(6))
