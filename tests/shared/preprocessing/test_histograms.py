"""Histograms over shared bins, and their quantiles."""

import numpy as np
import pytest

from shared.preprocessing.histograms import INTENSITY_EDGES, SIZE_EDGES, SPACING_EDGES, VOLUME_EDGES, count, quantile


def test_values_beyond_the_bins_are_kept_in_the_outer_ones():
    edges = np.array([0.0, 1.0, 2.0])
    assert count([-5.0, 0.5, 2.0, 99.0], edges).tolist() == [2, 2]


def test_quantiles_by_hand():
    edges = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    # Two values in 0..10, none in 10..20, four in 20..30, four in 30..40.
    counts = np.array([2, 0, 4, 4])
    assert quantile(counts, edges, 0.1) == pytest.approx(5.0)
    assert quantile(counts, edges, 0.5) == pytest.approx(27.5)
    assert quantile(counts, edges, 0.95) == pytest.approx(38.75)
    assert quantile(counts, edges, 1.0) == pytest.approx(40.0)
    assert quantile(np.array([0, 3, 0, 0]), edges, 0.0) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="empty"):
        quantile(np.zeros(4, int), edges, 0.5)


@pytest.mark.parametrize("edges", [SPACING_EDGES, SIZE_EDGES, VOLUME_EDGES, INTENSITY_EDGES])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_quantile_is_numpys_up_to_the_width_of_a_bin(edges, share):
    middle, spread = edges[len(edges) // 2], 0.05 * (edges[-1] - edges[0])
    values = np.clip(np.random.default_rng(0).normal(middle, spread, 5000), edges[0], edges[-1])
    exact = np.quantile(values, share)
    index = int(np.searchsorted(edges, exact)) - 1
    width = edges[min(index + 2, len(edges) - 1)] - edges[max(index - 1, 0)]
    assert quantile(count(values, edges), edges, share) == pytest.approx(exact, abs=width)


def test_histograms_of_sites_add_up_to_that_of_all():
    values = np.random.default_rng(1).uniform(0.0, 400.0, 300)
    parts = [count(part, SIZE_EDGES) for part in np.split(values, [70, 200])]
    assert np.array_equal(sum(parts), count(values, SIZE_EDGES))
