"""Subtypes, receptors and latent biology of the phantom cancers, and the best AUC that any model can reach on them.

Receptors and Ki-67 follow the St. Gallen surrogate definitions (Goldhirsch et al., Ann Oncol 2013;24:2206): luminal A
is ER+, PR+, HER2-, Ki-67 < 20%; luminal B is ER+ with HER2+, high Ki-67 or PR-; HER2-enriched is ER-, PR-, HER2+;
triple-negative is ER-, PR-, HER2-. Given the subtype, latents are correlated Gaussians; `separation` scales the
distances between the means of the subtypes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from shared.phantom.centres import DENSITIES, SUBTYPES, Population
from shared.phantom.traits import LATENTS, Doubles, Traits

KI67_CUT = 20.0
# Means of each latent (row) by subtype, in standard deviations within a subtype, at separation 1. Triple-negative:
# round, smooth, rim, necrosis, oedema; HER2-enriched: large, strong uptake, fast wash-out; luminal A: small,
# spiculated, slow; luminal B: between them.
_MEANS = 1.2 * np.array(
    [
        [-0.50, 0.00, 0.66, -0.12],
        [0.25, 0.20, 0.30, -0.75],
        [0.20, 0.35, 0.40, -0.80],
        [0.95, 0.40, -0.50, -1.10],
        [-0.65, -0.25, 0.25, 1.15],
        [-0.50, -0.15, 0.30, 0.95],
        [-0.55, -0.05, 0.40, 0.70],
        [-0.50, 0.00, 0.85, 0.15],
        [-0.85, 0.05, 0.90, 0.40],
        [-0.55, 0.10, 0.60, 0.15],
    ]
)
_SATELLITES = np.array([0.15, 0.40, 1.00, 0.25])  # Poisson means
_NON_MASS = np.array([0.06, 0.10, 0.42, 0.05])  # shares
# Shares: HER2+ and PR+ among luminal B, low Ki-67 among HER2+ luminal B, and an IHC score of 2+ among all cancers.
_LUMINAL_B_HER2, _LUMINAL_B_PR, _SLOW_HER2, _EQUIVOCAL = 0.35, 0.75, 0.25, 0.2


@dataclass(frozen=True, slots=True)
class Latents:
    """Biology that the images show. Diameter in mm, Ktrans and kep per minute, the others without a unit."""

    diameter_mm: float
    axis_ratio: float
    irregularity: float
    spiculation: float
    rim: float
    necrosis: float
    oedema: float
    ktrans: float
    kep: float
    heterogeneity: float
    satellites: int
    non_mass: bool


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of a patient with cancer, as the table has them; an IHC score of 2 comes with in-situ hybridisation."""

    subtype: str
    er: bool
    pr: bool
    her2_ihc: int
    her2_fish: bool | None
    ki67_percent: float
    age: int
    density: str

    @property
    def her2(self) -> bool:
        """HER2 status by ASCO/CAP: 3+ or amplified."""
        return self.her2_ihc == 3 or bool(self.her2_fish)  # noqa: PLR2004 - the score's name


def traits_at(separation: float) -> Traits:
    """Traits of the subtypes with the distances between their means scaled by `separation`."""

    def shares(values: Doubles) -> Doubles:
        return np.asarray(np.clip(values.mean() + separation * (values - values.mean()), 0.01, None))

    means = _MEANS - _MEANS.mean(axis=1, keepdims=True)
    return Traits(separation * means.T, np.ones(len(LATENTS)), shares(_SATELLITES), shares(_NON_MASS))


def draw_labels(rng: np.random.Generator, population: Population) -> Labels:
    """Draw a subtype by the centre's prevalence, then receptors, Ki-67, age and density."""
    subtype = SUBTYPES[rng.choice(len(SUBTYPES), p=population.prevalence)]
    density = DENSITIES[rng.choice(len(DENSITIES), p=population.density)]
    luminal = subtype.startswith("luminal")
    her2 = subtype == "her2_enriched" or (subtype == "luminal_b" and rng.random() < _LUMINAL_B_HER2)
    pr = subtype == "luminal_a" or (subtype == "luminal_b" and rng.random() < _LUMINAL_B_PR)
    median, spread = {
        "luminal_a": (9.0, 0.40),
        "luminal_b": (32.0, 0.35),
        "her2_enriched": (38.0, 0.40),
        "triple_negative": (58.0, 0.35),
    }[subtype]
    if subtype == "luminal_b" and her2 and rng.random() < _SLOW_HER2:
        median = 13.0
    ki67 = float(np.clip(median * np.exp(spread * rng.standard_normal()), 1.0, 95.0))
    if subtype == "luminal_a":
        ki67 = min(ki67, KI67_CUT - 1.0)
    if subtype == "luminal_b" and pr and not her2:
        ki67 = max(ki67, KI67_CUT)
    equivocal = rng.random() < _EQUIVOCAL
    ihc = 2 if equivocal else (3 if her2 else int(rng.integers(0, 2)))
    centre_age = {"luminal_a": 58, "luminal_b": 54, "her2_enriched": 53, "triple_negative": 49}[subtype]
    younger = {"a": 6, "b": 3, "c": -2, "d": -6}[density]
    return Labels(
        subtype=subtype,
        er=luminal,
        pr=pr,
        her2_ihc=ihc,
        her2_fish=her2 if equivocal else None,
        ki67_percent=float(round(ki67)),
        age=int(np.clip(rng.normal(centre_age + younger, 9.0), 26, 84)),
        density=density,
    )


def draw_latents(rng: np.random.Generator, subtype: str, separation: float, ln_diameter: float) -> Latents:
    """Draw the latents of one cancer; `ln_diameter` is the centre's offset of the logarithmic diameter."""
    # A cancer smaller than 14 mm has too few voxels on the coarse grids.
    return express(rng, traits_at(separation), SUBTYPES.index(subtype), ln_diameter, smallest_mm=14.0)


def express(rng: np.random.Generator, traits: Traits, index: int, ln_diameter: float, *, smallest_mm: float) -> Latents:
    """Draw a lesion of class `index` and convert its latents to their units; `ln_diameter` as in `draw_latents`."""
    z = dict(zip(LATENTS, traits.draw(index, rng).tolist(), strict=True))

    def logistic(value: float) -> float:
        return float(1.0 / (1.0 + np.exp(-value)))

    return Latents(
        # Median diameters 23 / 27 / 33 / 26 mm by subtype at separation 1.
        diameter_mm=float(np.clip(26.5 * np.exp(0.27 * z["ln_diameter"] + ln_diameter), smallest_mm, 52.0)),
        axis_ratio=float(np.clip(1.22 * np.exp(0.16 * z["eccentricity"]), 1.0, 1.9)),
        irregularity=float(np.clip(0.12 * np.exp(0.5 * z["irregularity"]), 0.02, 0.35)),
        spiculation=logistic(1.3 * z["spiculation"] - 0.4),
        rim=logistic(1.3 * z["rim"] - 0.8),
        necrosis=float(np.clip(0.20 + 0.22 * z["necrosis"], 0.0, 0.62)),
        oedema=logistic(1.2 * z["oedema"] - 0.8),
        ktrans=float(0.20 * np.exp(0.34 * z["ln_ktrans"])),
        kep=float(0.66 * np.exp(0.42 * z["ln_kep"])),
        heterogeneity=float(np.clip(0.20 * np.exp(0.4 * z["heterogeneity"]), 0.05, 0.5)),
        satellites=int(min(4, rng.poisson(traits.satellites[index]))),
        non_mass=bool(rng.random() < traits.non_mass[index]),
    )


def auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney); ties count one half."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def oracle_auc(
    population: Population, separation: float, n: int = 20_000, seed: int = 0, signs: Doubles | None = None
) -> dict[str, float]:
    """AUC of the posterior under the model that generates the phantoms: no network can do better.

    `signs` are the probabilities, `(class, sign)`, of one further sign that images show beside the latents: for
    mammograms `mammogram_lesion.calcification_signs()`.

    Returns the one-vs-rest AUC of each subtype, and those of `er`, `pr`, `her2`, `ki67_high`,
    `luminal` (ER or PR), `luminal_b_her2_negative` and `her2_luminal`.
    It is nearly the Bayes classifier: it reads the latents themselves, which images show only through noise, and it
    ignores that extreme values are clipped.
    """
    rng = np.random.default_rng(seed)
    labels = [draw_labels(rng, population) for _ in range(n)]
    truth = np.array([SUBTYPES.index(label.subtype) for label in labels])
    traits = traits_at(separation)
    z = np.stack([traits.draw(index, rng) for index in truth])
    satellites, non_mass = rng.poisson(traits.satellites[truth]), rng.random(n) < traits.non_mass[truth]
    logit = np.log(np.array(population.prevalence)) + traits.log_likelihood(z, satellites, non_mass)
    if signs is not None:
        shown = (rng.random(n)[:, None] > np.cumsum(signs[truth], axis=1)[:, :-1]).sum(axis=1)
        logit += np.log(signs[:, shown]).T
    posterior = np.exp(logit - logit.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    result = {name: auc(posterior[:, index], truth == index) for index, name in enumerate(SUBTYPES)}
    for marker, positive in {
        "er": np.array([label.er for label in labels]),
        "pr": np.array([label.pr for label in labels]),
        "her2": np.array([label.her2 for label in labels]),
        "ki67_high": np.array([label.ki67_percent >= KI67_CUT for label in labels]),
        "luminal": np.array([label.er or label.pr for label in labels]),
        "luminal_b_her2_negative": np.array([label.subtype == "luminal_b" and not label.her2 for label in labels]),
        "her2_luminal": np.array([(label.er or label.pr) and label.her2 for label in labels]),
    }.items():
        # Given the subtype, latents and markers are independent, so a marker's posterior is a mixture over subtypes.
        given = np.array([positive[truth == index].mean() for index in range(len(SUBTYPES))])
        result[marker] = auc(posterior @ given, positive)
    return result
