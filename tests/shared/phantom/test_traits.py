"""Traits of lesions: their moments, and their likelihood against scipy's own distributions."""

import numpy as np
import pytest
from scipy import stats

from shared.phantom.traits import LATENTS, Traits, _correlation

TRAITS = Traits(
    means=np.vstack([np.linspace(-1.0, 1.0, 10), np.zeros(10)]),
    spreads=np.linspace(0.5, 1.5, 10),
    satellites=np.array([0.2, 1.5]),
    non_mass=np.array([0.1, 0.6]),
)


def covariance():
    return _correlation() * np.outer(TRAITS.spreads, TRAITS.spreads)


def test_draws_have_the_classes_mean_and_covariance():
    rng = np.random.default_rng(0)
    draws = np.stack([TRAITS.draw(0, rng) for _ in range(20_000)])
    assert draws.mean(axis=0) == pytest.approx(TRAITS.means[0], abs=0.04)
    assert np.cov(draws.T) == pytest.approx(covariance(), abs=0.06)


def test_correlation_is_one_for_itself_and_named_pairs_are_as_named():
    matrix = _correlation()
    assert np.allclose(np.diag(matrix), 1.0)
    assert np.array_equal(matrix, matrix.T)
    rim, necrosis = LATENTS.index("rim"), LATENTS.index("necrosis")
    assert matrix[rim, necrosis] == 0.50
    assert matrix[LATENTS.index("rim"), LATENTS.index("ln_kep")] == 0.12


def test_log_likelihood_is_scipys_up_to_one_constant():
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((8, 10))
    satellites, non_mass = rng.integers(0, 4, 8), rng.random(8) < 0.5
    expected = np.empty((8, 2))
    for index in range(2):
        normal = stats.multivariate_normal(TRAITS.means[index], covariance()).logpdf(latents)
        # The factorial of the Poisson term is the same for every class, so it is left out.
        poisson = stats.poisson(TRAITS.satellites[index]).logpmf(satellites) + np.log(
            [float(np.prod(np.arange(1, count + 1))) for count in satellites]
        )
        expected[:, index] = normal + poisson + stats.bernoulli(TRAITS.non_mass[index]).logpmf(non_mass)
    difference = TRAITS.log_likelihood(latents, satellites, non_mass) - expected
    assert difference == pytest.approx(np.full((8, 2), difference[0, 0]), abs=1e-9)
