"""Traits of lesions by class: correlated Gaussian latents, satellites, non-mass growth, and their likelihood.

Cancers and benign lesions have the same kind of distribution, so one posterior compares them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

LATENTS = (
    "ln_diameter",
    "eccentricity",
    "irregularity",
    "spiculation",
    "rim",
    "necrosis",
    "oedema",
    "ln_ktrans",
    "ln_kep",
    "heterogeneity",
)
_PAIRS = {
    ("irregularity", "spiculation"): 0.45,
    ("rim", "necrosis"): 0.50,
    ("ln_ktrans", "ln_kep"): 0.45,
    ("ln_diameter", "necrosis"): 0.30,
    ("ln_diameter", "oedema"): 0.35,
    ("necrosis", "oedema"): 0.35,
}
_COMMON_CORRELATION = 0.12


def _correlation() -> Doubles:
    """Correlation of the latents within a class; with independent ones the oracle would do unrealistically well."""
    matrix = np.full((len(LATENTS), len(LATENTS)), _COMMON_CORRELATION)
    np.fill_diagonal(matrix, 1.0)
    for (first, second), value in _PAIRS.items():
        i, j = LATENTS.index(first), LATENTS.index(second)
        matrix[i, j] = matrix[j, i] = value
    return matrix


_FACTOR, _PRECISION = np.linalg.cholesky(_correlation()), np.linalg.inv(_correlation())


@dataclass(frozen=True, slots=True)
class Traits:
    """Distribution of traits in some classes of lesions; latents in standard deviations within a class of cancers."""

    means: Doubles  # of the latents, (class, latent)
    spreads: Doubles  # standard deviations of the latents, (latent,)
    satellites: Doubles  # mean number (Poisson), (class,)
    non_mass: Doubles  # share of lesions with non-mass growth, (class,)

    def draw(self, index: int, rng: np.random.Generator) -> Doubles:
        """Draw the latents of one lesion of a class, `(latent,)`."""
        return np.asarray(self.means[index] + self.spreads * (_FACTOR @ rng.standard_normal(len(LATENTS))))

    def log_likelihood(
        self, latents: Doubles, satellites: npt.NDArray[np.int64], non_mass: npt.NDArray[np.bool_]
    ) -> Doubles:
        """Log-likelihood of lesions under each class, `(n, class)`, up to a constant that is the same for all traits.

        Latents are `(n, latent)`, satellites and non-mass growth `(n,)`.
        """
        offset = (latents[:, None, :] - self.means[None]) / self.spreads
        log_likelihood = -0.5 * np.einsum("nci,ij,ncj->nc", offset, _PRECISION, offset)
        log_likelihood += satellites[:, None] * np.log(self.satellites) - self.satellites
        log_likelihood += np.where(non_mass[:, None], np.log(self.non_mass), np.log1p(-self.non_mass))
        return np.asarray(log_likelihood - np.log(self.spreads).sum())
