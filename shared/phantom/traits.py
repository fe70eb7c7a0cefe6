"""Traits of lesions by class: correlated Gaussian latents, satellites and non-mass growth, and how likely they are.

Cancers and benign lesions are drawn from the same kind of distribution, so that one posterior compares them all.
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
    """Correlation of the latents within a class: independent ones would raise the ceiling beyond what is real."""
    matrix = np.full((len(LATENTS), len(LATENTS)), _COMMON_CORRELATION)
    np.fill_diagonal(matrix, 1.0)
    for (first, second), value in _PAIRS.items():
        i, j = LATENTS.index(first), LATENTS.index(second)
        matrix[i, j] = matrix[j, i] = value
    return matrix


_FACTOR, _PRECISION = np.linalg.cholesky(_correlation()), np.linalg.inv(_correlation())


@dataclass(frozen=True, slots=True)
class Traits:
    """What some classes of lesions are like.

    Attributes
    ----------
    means, spreads
        Of the latents, `(class, latent)` and `(latent,)`, in within-class standard deviations of cancers.
    satellites
        Poisson means, `(class,)`.
    non_mass
        Shares, `(class,)`.

    """

    means: Doubles
    spreads: Doubles
    satellites: Doubles
    non_mass: Doubles

    def draw(self, index: int, rng: np.random.Generator) -> Doubles:
        """Latents of one lesion of a class, `(latent,)`."""
        return np.asarray(self.means[index] + self.spreads * (_FACTOR @ rng.standard_normal(len(LATENTS))))

    def log_likelihood(
        self, latents: Doubles, satellites: npt.NDArray[np.int64], non_mass: npt.NDArray[np.bool_]
    ) -> Doubles:
        """Log-likelihood of lesions under each class, `(n, class)`, up to one constant for all classes of all traits.

        Parameters
        ----------
        latents
            `(n, latent)`.
        satellites, non_mass
            `(n,)`.

        """
        offset = (latents[:, None, :] - self.means[None]) / self.spreads
        found = -0.5 * np.einsum("nci,ij,ncj->nc", offset, _PRECISION, offset)
        found += satellites[:, None] * np.log(self.satellites) - self.satellites
        found += np.where(non_mass[:, None], np.log(self.non_mass), np.log1p(-self.non_mass))
        return np.asarray(found - np.log(self.spreads).sum())
