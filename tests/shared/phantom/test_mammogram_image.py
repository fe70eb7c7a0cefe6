"""Attenuation by hand, noise, and what processing does."""

import numpy as np
import pytest

from shared.phantom.mammogram_image import (
    CONSENSUS_LOOK,
    UNITS,
    Look,
    expose,
    grey_scale,
    look_at,
    processed,
    raw_counts,
)

CLEAN = Look(contrast=1.0, noise=0.0, blur=0.0, sharpen=0.0, equalise=0.0, steep=1.0, fog=0.0)


def slab(**mm):
    return {name: np.full((64, 64), length, np.float32) for name, length in mm.items()}


def test_attenuation_by_hand():
    measured = expose(np.random.default_rng(1), slab(fat=40.0, gland=10.0, calcium=0.5), CLEAN)
    assert measured == pytest.approx(40 * 0.0456 + 10 * 0.0802 + 0.5 * 1.2, abs=1e-4)
    harder = expose(np.random.default_rng(1), slab(fat=40.0, gland=10.0), look_at("D", 1.0))
    assert harder.mean() == pytest.approx(50 * 0.0456 + 0.9 * 10 * (0.0802 - 0.0456), abs=0.005)


def test_noise_is_as_stated_behind_50_mm_of_fat_and_grows_with_the_root_of_what_is_absorbed():
    noisy = Look(contrast=1.0, noise=0.012, blur=0.0, sharpen=0.0, equalise=0.0, steep=1.0, fog=0.0)
    assert expose(np.random.default_rng(2), slab(fat=50.0), noisy).std() == pytest.approx(0.012, rel=0.05)
    thick = expose(np.random.default_rng(2), slab(fat=80.0), noisy).std()
    assert thick == pytest.approx(0.012 * np.exp(0.5 * 30.0 * 0.0456), rel=0.05)


def test_counts_for_processing_fall_with_thickness_and_fit_the_bits():
    counts = raw_counts(np.linspace(0.0, 5.0, 20), 14)
    assert (np.diff(counts) < 0.0).all()
    assert counts[0] == round(0.92 * (2**14 - 1))
    np.testing.assert_allclose(-np.log(counts / counts[0]), np.linspace(0.0, 5.0, 20), atol=0.02)


def test_processing_makes_up_for_the_missing_thickness_of_the_rim():
    whole = np.full((64, 160), 50.0, np.float32)
    whole[:, 80:] = 20.0
    inside = np.ones(whole.shape, bool)
    measured = expose(np.random.default_rng(1), {"fat": whole}, CLEAN)
    full = Look(contrast=1.0, noise=0.0, blur=0.0, sharpen=0.0, equalise=1.0, steep=1.0, fog=0.0)
    (plain, _), (level, _) = (processed(measured, whole, 50.0, 0.45, look, inside) for look in (CLEAN, full))
    assert plain[0, 0] - plain[0, -1] == pytest.approx(30 * 0.0456, abs=1e-3)
    assert level[0, 0] == pytest.approx(level[0, -1], abs=0.002)


def test_the_grey_scale_rises_from_black_to_white():
    grey = grey_scale(np.linspace(0.8, 2.2, 30), (1.0, 2.0), CLEAN)
    assert grey[0] == 0.0
    assert grey[-1] == 1.0
    assert (np.diff(grey[5:25]) > 0.0).all()


def test_shift_scales_how_far_the_centres_looks_differ():
    assert {look_at(key, 0.0) for key in UNITS} == {CONSENSUS_LOOK}
    assert all(look_at(key, 1.0).noise == pytest.approx(UNITS[key].look.noise) for key in UNITS)
    assert look_at("D", 2.0).equalise == 0.0
