"""The physics against hand computation and against what it does to whole pictures."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shared.phantom.biology import SUBTYPES, draw_latents
from shared.phantom.centres import CENTRES, protocol_at
from shared.phantom.exam import make_exam
from shared.phantom.kinetics import tofts_concentration
from shared.phantom.mr_signal import GLAND_GREY, spoiled_gradient_echo, tissue_signal
from shared.phantom.settings import PhantomSettings

FULL = protocol_at(CENTRES["A"], 1.0)


def test_spoiled_gradient_echo_by_hand():
    # TR 5 ms, TE 2 ms, 12 degrees, 3 T (r1 = 3.7), T1 1000 ms, 1 mmol/L: R1 = 4.7/s, E1 = exp(-0.0235) = 0.976774.
    protocol = replace(FULL, repetition_ms=5.0, echo_ms=2.0, flip_deg=12.0, field_t=3.0)
    e1 = math.exp(-0.005 * 4.7)
    signal = math.sin(math.radians(12)) * (1 - e1) / (1 - math.cos(math.radians(12)) * e1)
    signal *= math.exp(-0.002 * (1 / 0.030 + 5.3))
    agent = np.array([1.0], np.float32)
    assert spoiled_gradient_echo(1000.0, 1.0, agent, protocol)[0] == pytest.approx(signal, rel=1e-5)
    assert signal == pytest.approx(0.1003, abs=1e-4)  # 0.20791 * 0.023226 / 0.044571 * 0.92564


def test_long_repetition_at_90_degrees_gives_the_whole_magnetisation():
    protocol = replace(FULL, repetition_ms=1e6, echo_ms=0.0, flip_deg=90.0)
    assert spoiled_gradient_echo(1000.0, 0.8, np.zeros(1, np.float32), protocol)[0] == pytest.approx(0.8, rel=1e-6)


@pytest.mark.parametrize(
    ("tissue", "early", "late"),
    # Per cent at centre A's full protocol: early over pre, third over first post-contrast phase.
    [("gland", 23, 7), ("fibroadenoma", 125, 21), ("node", 146, -14), ("blood", 310, -18)],
)
def test_curve_type_of_a_tissue(tissue, early, late):
    signal = tissue_signal(tissue, FULL)
    assert 100 * (signal[1] / signal[0] - 1) == pytest.approx(early, abs=max(5, 0.08 * early))
    assert 100 * (signal[3] / signal[1] - 1) == pytest.approx(late, abs=5)


def test_fat_and_cysts_do_not_enhance():
    for tissue in ("fat", "cyst"):
        assert np.ptp(tissue_signal(tissue, FULL)) == 0.0


@pytest.mark.parametrize(
    ("subtype", "early", "late"), list(zip(SUBTYPES, (143, 156, 165, 158), (4, -5, -16, -12), strict=True))
)
def test_curve_type_of_a_cancer(subtype, early, late):
    rng = np.random.default_rng(0)
    latents = [draw_latents(rng, subtype, 1.0, 0.0) for _ in range(300)]
    ktrans, kep = (np.array([getattr(item, name) for item in latents], np.float32) for name in ("ktrans", "kep"))
    agent = tofts_concentration(FULL.post_times_s, ktrans, kep, np.full_like(kep, 0.04))
    signal = spoiled_gradient_echo(1560.0, 0.9, np.concatenate([np.zeros((1, 300), np.float32), agent]), FULL)
    assert 100 * (np.median(signal[1] / signal[0]) - 1) == pytest.approx(early, abs=15)
    assert 100 * (np.median(signal[3] / signal[1]) - 1) == pytest.approx(late, abs=6)


@pytest.mark.parametrize("centre", ["B", "D"])
def test_air_is_rayleigh_with_the_protocols_noise(centre):
    exam = make_exam(centre, 0, PhantomSettings())
    air = exam.phases[:, :, :4, :].ravel()  # in front of the breasts
    sigma = GLAND_GREY / exam.protocol.snr
    assert air.mean() / air.std() == pytest.approx(1.913, abs=0.02)
    assert math.sqrt((air.astype(np.float64) ** 2).mean() / 2) / sigma == pytest.approx(1.0, abs=0.01)


def test_stored_grey_levels_are_many():
    for centre in CENTRES:
        exam = make_exam(centre, 1, PhantomSettings())
        assert len(np.unique(exam.phases)) > 1000
