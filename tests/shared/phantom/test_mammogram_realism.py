"""Measures of realism, on pictures whose answers are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shared.phantom.mammogram_realism import bright_share, brightest_outline, power_law_exponent


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_the_exponent_of_a_made_field_is_found(exponent):
    rng = np.random.default_rng(5)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    frequency[0, 0] = 1.0
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((512, 512))) * frequency ** (-exponent / 2.0)).real
    assert power_law_exponent(field, np.ones(field.shape, bool)) == pytest.approx(exponent, abs=0.2)
    assert np.isnan(power_law_exponent(field, np.zeros(field.shape, bool)))


def test_the_bright_share_counts_the_breast_alone():
    picture = np.zeros((10, 10))
    picture[:5] = 0.8
    inside = np.zeros((10, 10), bool)
    inside[:8, :5] = True
    assert bright_share(picture, inside) == pytest.approx(5 / 8)


def test_the_rule_outlines_the_brightest_body_and_not_the_skin():
    inside = np.zeros((200, 150), bool)
    inside[20:180, :120] = True
    disc = (np.arange(200)[:, None] - 90.0) ** 2 + (np.arange(150)[None, :] - 50.0) ** 2 < 20.0**2
    picture = 0.3 * inside + 0.4 * gaussian_filter(disc.astype(float), 2.0)
    picture[inside & ~np.roll(inside, -3, axis=1)] = 1.0
    outlined = brightest_outline(picture, inside, 0.45)
    assert 2.0 * (outlined & disc).sum() / (outlined.sum() + disc.sum()) > 0.9
    assert not brightest_outline(picture, np.zeros_like(inside), 0.45).any()
