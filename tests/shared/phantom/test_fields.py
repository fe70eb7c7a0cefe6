"""Random fields: their variance, their smoothness, their spectrum; edges by hand."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from shared.phantom.fields import _spline_weights, axes_mm, edge_share, power_law_fields, spline_field
from shared.types import Grid

GRID = Grid((40, 44, 48), (2.0, 1.5, 1.5), (-30.0, -20.0, 5.0))


def test_axes_hold_the_centres_of_the_voxels():
    z, y, x = axes_mm(Grid((2, 3, 2), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0)))
    assert (z.shape, y.shape, x.shape) == ((2, 1, 1), (1, 3, 1), (1, 1, 2))
    assert (z.ravel().tolist(), y.ravel().tolist(), x.ravel().tolist()) == ([30, 33], [20, 22, 24], [10, 11])


def test_spline_weights_are_scipys_cubic_b_spline():
    positions = np.linspace(-3.0, 9.0, 50)
    weights = _spline_weights(positions, 5, -2.0, 2.5)
    basis = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    for knot in range(5):
        expected = np.nan_to_num(basis((positions + 2.0) / 2.5 - knot))
        assert weights[:, knot] == pytest.approx(expected, abs=1e-6)


def test_spline_field_has_unit_variance_and_neighbours_are_alike():
    rng = np.random.default_rng(0)
    fields = np.stack([spline_field(rng, GRID, 8.0) for _ in range(20)])
    assert fields.std() == pytest.approx(1.0, abs=0.1)
    step = np.corrcoef(fields[..., :-1].ravel(), fields[..., 1:].ravel())[0, 1]
    far = np.corrcoef(fields[..., :-32].ravel(), fields[..., 32:].ravel())[0, 1]  # 48 mm: six knots
    assert step > 0.95
    assert abs(far) < 0.1


def test_power_law_fields_are_independent_with_the_spectrum_asked_for():
    rng = np.random.default_rng(1)
    grid = Grid((64, 64, 64), (1.0, 1.0, 1.0))
    first, second = power_law_fields(rng, grid, 3.0, 1e6)
    assert (first.std(), second.std()) == pytest.approx((1.0, 1.0), abs=1e-3)
    power = np.abs(np.fft.fftn(first)) ** 2
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")))
    inside = (frequency > 0.05) & (frequency < 0.45)
    slope = np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-3.0, abs=0.1)
    high = [np.fft.ifftn(np.fft.fftn(field) * (frequency > 0.1)).real.ravel() for field in (first, second)]
    assert abs(np.corrcoef(*high)[0, 1]) < 0.05


def test_the_spectrum_is_flat_above_the_cutoff():
    grid = Grid((64, 64, 64), (1.0, 1.0, 1.0))
    first, _ = power_law_fields(np.random.default_rng(2), grid, 3.0, 4.0)
    power = np.abs(np.fft.fftn(first)) ** 2
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")))
    low, middle = (
        power[(frequency > 0) & (frequency < 0.06)].mean(),
        power[(frequency > 0.06) & (frequency < 0.1)].mean(),
    )
    # (f^2 + 1/16)^-1.5: at 0.04 over at 0.085 is (0.0697 / 0.0641)^1.5 = 1.13; without the cut-off it would be 9.6.
    assert low / middle == pytest.approx(1.13, abs=0.35)


def test_edge_share_by_hand():
    depth = np.array([-2.0, -0.5, 0.0, 0.25, 2.0])
    assert edge_share(depth, 1.0).tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]
    assert edge_share(depth, 4.0).tolist() == [0.0, 0.375, 0.5, 0.5625, 1.0]
