"""Benign index lesions that resemble cancer: fibroadenoma, papilloma, sclerosing adenosis, inflamed cyst.

They represent the benign lesions among those referred to MRI, and they overlap with cancers on purpose: a logistic
regression on measures of the reference outline reaches an AUC of about 0.86 (docs/experiments.md). Their latents have
the distribution of the cancers' latents with other means (`Traits`), so one oracle can compare both. Sources:

- Kinetics: 83% of benign lesions have a rising curve, 12% a plateau and 6% wash-out (Kuhl et al., Radiology
  1999;211:101). Here the curves are closer to those of cancers: in the images about half of the fibroadenomas rise by
  more than 10%, and 1 in 30 washes out.
- Fibroadenomas: 83% are lobular, oval or round; 64% of the enhancing ones have dark septa (Hochman et al., Radiology
  1997;204:123).
- Papillomas: 4 to 43 mm, mean 15 mm; of 13 masses 6 were irregular, 7 not circumscribed, 3 had a rim (Son et al.,
  Yonsei Med J 2009;50:838); 21% non-mass enhancement (Wang et al., World J Surg Oncol 2018, 175 papillomas).
- Sclerosing adenosis: 5 to 25 mm, 27% non-mass, 58% rising and 42% plateau (Panourgias et al., Hell J Radiol); among
  suspicious ones 63% of masses not circumscribed and 66% wash-out (Gity et al., J Breast Cancer 2015;18:187).
- Adjacent vessel: at 12% of benign lesions and 47% of cancers (Dietzel et al., Korean J Radiol 2010;11:178). Here at
  60% of benign lesions, because every phantom cancer has one.

Sizes are larger than the published ones because no phantom cancer is smaller than 14 mm. The thickness of a cyst's
wall is our own choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from shared.phantom.anatomy import Anatomy
from shared.phantom.biology import Latents, auc, express, traits_at
from shared.phantom.breasts import Breast
from shared.phantom.centres import DENSITIES, Population
from shared.phantom.fields import edge_share
from shared.phantom.lesions import Lesion, around, build_lesion, place, reach_mm, star_depth
from shared.phantom.traits import Traits

BenignKind = Literal["fibroadenoma", "papilloma", "adenosis", "cyst"]

KINDS: tuple[BenignKind, ...] = ("fibroadenoma", "papilloma", "adenosis", "cyst")
_SHARES = np.array([0.45, 0.15, 0.25, 0.15])
_AGES = {"fibroadenoma": 43.0, "papilloma": 50.0, "adenosis": 46.0, "cyst": 48.0}
# Columns in the order of LATENTS. A papilloma is small and enhances fast, adenosis is irregular; of a cyst only size,
# kinetics and oedema are used. Kinetics spread more: a myxoid fibroadenoma enhances as fast as a cancer, a sclerosed
# one hardly at all.
_TRAITS = Traits(
    means=np.array(
        [
            [-0.55, 0.40, -0.50, -1.20, -0.60, -1.80, -0.60, -0.80, -2.30, -0.50],
            [-1.30, 0.00, -0.20, -0.80, 0.20, -1.20, -0.30, 0.00, -0.80, 0.00],
            [-0.95, 0.10, 0.30, 0.20, -0.10, -1.80, -0.30, -0.60, -1.70, 0.20],
            [-0.90, -0.80, -1.60, -3.00, 0.00, 0.00, 0.00, -0.30, -1.60, -1.00],
        ]
    ),
    spreads=np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.2, 1.3, 1.0]),
    satellites=np.array([0.10, 0.30, 0.30, 0.05]),
    non_mass=np.array([0.01, 0.21, 0.30, 0.01]),
)
_SEPTATE = np.array([0.35, 0.0, 0.0, 0.0])  # share of each kind that has septa
_FEEDER, _COMPLICATED = 0.6, 0.45  # share of lesions with a feeding vessel, share of cysts with protein
_FEEDER_MM = 0.9  # radius of the feeding vessel
_SMALLEST_MM = {"fibroadenoma": 8.0, "papilloma": 8.0, "adenosis": 8.0, "cyst": 12.0}  # a cyst must hold fluid
_LARGEST_SPACE = 0.9  # Ktrans over kep is the share of extracellular space
_WALL_MM, _WALL_SHARE = (1.5, 4.0), 0.45  # thickness of a cyst's wall; at most this share of its radius
_UNEVEN = 0.25  # standard deviation of the logarithm of the wall's thickness
_SEPTUM_MM = 0.9  # distance from a septum's middle at which most of its darkness is gone


@dataclass(frozen=True, slots=True)
class BenignLabels:
    """Labels of a patient with a benign index lesion, which has no receptors and no subtype."""

    kind: BenignKind
    age: int
    density: str


@dataclass(frozen=True, slots=True)
class BenignLatents:
    """Biology that the images show: the latents that cancers have too, and those of benign lesions alone."""

    kind: BenignKind
    body: Latents  # what it shares with cancers
    septa: int  # number of dark ones
    wall_mm: float  # of a cyst: thickness of its wall, which alone enhances
    protein: float  # share of a cyst's fluid
    feeder_mm: float  # radius of the vessel that leads to the lesion; 0 without one

    @property
    def diameter_mm(self) -> float:
        """Diameter of the body."""
        return self.body.diameter_mm


def draw_benign_labels(rng: np.random.Generator, population: Population) -> BenignLabels:
    """Draw kind, density and age: patients are younger than those with cancer, and the ages overlap widely."""
    kind = KINDS[rng.choice(len(KINDS), p=_SHARES)]
    density = DENSITIES[rng.choice(len(DENSITIES), p=population.density)]
    younger = {"a": 6, "b": 3, "c": -2, "d": -6}[density]
    return BenignLabels(kind, int(np.clip(rng.normal(_AGES[kind] + younger, 10.0), 20, 84)), density)


def draw_benign_latents(rng: np.random.Generator, kind: BenignKind, ln_diameter: float) -> BenignLatents:
    """Draw the latents of a lesion of at least 8 mm (a cyst: 12 mm); `ln_diameter` is the centre's offset."""
    index = KINDS.index(kind)
    body = express(rng, _TRAITS, index, ln_diameter, smallest_mm=_SMALLEST_MM[kind])
    body = replace(body, kep=max(body.kep, body.ktrans / _LARGEST_SPACE))
    septate, fed, complicated = rng.random(3) < (_SEPTATE[index], _FEEDER, _COMPLICATED)
    cyst = kind == "cyst"
    if cyst:
        body = replace(body, spiculation=0.0, rim=0.0, necrosis=0.0, satellites=0, non_mass=False)
    return BenignLatents(
        kind=kind,
        body=body,
        septa=int(rng.integers(1, 4)) if septate and not body.non_mass else 0,
        wall_mm=float(min(rng.uniform(*_WALL_MM), _WALL_SHARE * 0.5 * body.diameter_mm)) if cyst else 0.0,
        protein=float(rng.uniform(0.3, 0.9)) if cyst and complicated else 0.0,
        feeder_mm=_FEEDER_MM if fed else 0.0,
    )


def malignancy_oracle(population: Population, separation: float, n: int = 20_000, seed: int = 0) -> float:
    """AUC of the posterior of malignancy under the model that generates the phantoms: no network can do better.

    Like `biology.oracle_auc` it reads the latents, which images show only through noise. A cyst, septa or the lack of a
    vessel prove that a lesion is benign, because no cancer has them.
    """
    rng = np.random.default_rng(seed)
    cancers, malignant = traits_at(separation), np.arange(n) % 2 == 0
    prevalence = np.array(population.prevalence)
    drawn = [
        (cancers, rng.choice(len(prevalence), p=prevalence)) if one else (_TRAITS, rng.choice(len(KINDS), p=_SHARES))
        for one in malignant
    ]
    latents = np.stack([traits.draw(index, rng) for traits, index in drawn])
    satellites = rng.poisson([traits.satellites[index] for traits, index in drawn])
    non_mass = rng.random(n) < [traits.non_mass[index] for traits, index in drawn]
    # Share of each kind whose lesions nothing proves to be benign: no cyst, without septa, with a vessel.
    left = _SHARES * (np.array(KINDS) != "cyst") * (1.0 - _SEPTATE) * _FEEDER
    given = np.array(
        [1.0 if one else left[index] / _SHARES[index] for one, (_, index) in zip(malignant, drawn, strict=True)]
    )
    certain = rng.random(n) >= given
    seen = cancers.log_likelihood(latents, satellites, non_mass)
    other = _TRAITS.log_likelihood(latents, satellites, non_mass)
    odds = logsumexp(seen, axis=1, b=prevalence) - logsumexp(other, axis=1, b=left)
    return auc(np.where(certain, -np.inf, odds), malignant)


def build_benign(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, latents: BenignLatents) -> Lesion:
    """Place the index lesion and map its uptake of contrast agent; the fluid of a cyst is part of the lesion."""
    if latents.kind == "cyst":
        return _build_cyst(rng, anatomy, breast, latents)
    lesion = build_lesion(rng, anatomy, breast, latents.body)
    _, offset = around(anatomy.grid, np.array(lesion.centre), reach_mm(latents.body))
    left = _septa(rng, offset, latents.diameter_mm / 2.0, latents.septa).astype(np.float32)
    return replace(lesion, ktrans=lesion.ktrans * left, plasma=lesion.plasma * left)


def _build_cyst(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, latents: BenignLatents) -> Lesion:
    grid, body = anatomy.grid, latents.body
    pitch = float(np.mean(grid.spacing))
    radius = latents.diameter_mm / 2.0
    centre = place(rng, anatomy, breast, 0.8 * radius)
    box, offset = around(grid, centre, reach_mm(body))
    depth, _ = star_depth(
        rng, offset, radius, axis_ratio=body.axis_ratio, irregularity=body.irregularity, spiculation=0.0
    )
    depth = np.minimum(depth, np.minimum(anatomy.surface[box] - 2.5, 4.5 - anatomy.wall[box]))
    own = anatomy.breast[breast.side][box]
    wall = latents.wall_mm * np.exp(_UNEVEN * anatomy.texture[box])
    fluid = edge_share(depth - wall, pitch) * own
    uptake = np.exp(body.heterogeneity * anatomy.texture[box])
    return Lesion(
        box=box,
        share=edge_share(depth, pitch) * own - fluid,
        ktrans=(body.ktrans * uptake).astype(np.float32),
        kep=np.full(fluid.shape, body.kep, np.float32),
        plasma=(0.04 * uptake).astype(np.float32),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        fluids={"cyst": fluid * np.float32(1.0 - latents.protein), "protein": fluid * np.float32(latents.protein)},
    )


def _septa(
    rng: np.random.Generator, offset: npt.NDArray[np.float64], radius: float, count: int
) -> npt.NDArray[np.float64]:
    """Factor on the uptake, 0 to 1, of `count` thin curved sheets without uptake; `offset` is `(z, y, x, 3)`, mm."""
    left = np.ones(offset.shape[:-1])
    for _ in range(count):
        across, along = np.linalg.qr(rng.standard_normal((3, 2)))[0].T
        bend = 0.15 * radius * np.sin(offset @ along * (2.0 / radius) + rng.uniform(0.0, 2 * np.pi))
        sheet = offset @ across - radius * rng.uniform(-0.5, 0.5) - bend
        left *= 1.0 - 0.75 * np.exp(-((sheet / _SEPTUM_MM) ** 2))
    return left
