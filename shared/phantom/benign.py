"""Benign index lesions: fibroadenomas and cysts with an enhancing wall, which a reader must tell from cancer.

Fibroadenomas are round to oval, some lobulated, some crossed by dark septa, and take up contrast agent persistently;
a cyst's fluid takes up nothing, its wall does (ACR BI-RADS atlas, 5th edition, MRI lexicon). Sizes, outlines and
kinetics overlap with those of cancers on purpose: no single feature tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.phantom.anatomy import Anatomy
from shared.phantom.breasts import Breast
from shared.phantom.centres import DENSITIES, Population
from shared.phantom.fields import edge_share
from shared.phantom.lesions import Lesion, around, place, star_depth

BenignKind = Literal["fibroadenoma", "cyst"]

_FIBROADENOMA = 0.75  # share of benign index lesions; the others are cysts
_SEPTATE, _FED, _COMPLICATED = 0.35, 0.6, 0.45  # shares of fibroadenomas (2) and of cysts
_LOBULATED_FROM = 0.1  # standard deviations: 46% of fibroadenomas
_COMMON = 0.6  # correlation of each trait with what they have in common
_LARGEST_MM = 30.0
_AGE = {"fibroadenoma": 43.0, "cyst": 48.0}
_SEPTUM_MM = 0.9  # half width at which a septum has lost most of its darkness


@dataclass(frozen=True, slots=True)
class BenignLabels:
    """What is known of a patient with a benign index lesion: there are no receptors and no subtype."""

    kind: BenignKind
    age: int
    density: str


@dataclass(frozen=True, slots=True)
class BenignLatents:
    """Biology that the picture shows. Lengths mm, Ktrans and kep per minute (of the wall in a cyst), others shares."""

    kind: BenignKind
    diameter_mm: float
    axis_ratio: float
    irregularity: float
    ktrans: float
    kep: float
    plasma: float
    heterogeneity: float
    septa: int
    wall_mm: float
    protein: float
    feeder_mm: float


def draw_benign_labels(rng: np.random.Generator, population: Population) -> BenignLabels:
    """Kind of lesion, density as at the centre, age: younger than with cancer, with much overlap."""
    kind: BenignKind = "fibroadenoma" if rng.random() < _FIBROADENOMA else "cyst"
    density = DENSITIES[rng.choice(len(DENSITIES), p=population.density)]
    younger = {"a": 6, "b": 3, "c": -2, "d": -6}[density]
    return BenignLabels(kind, int(np.clip(rng.normal(_AGE[kind] + younger, 10.0), 20, 84)), density)


def draw_benign_latents(rng: np.random.Generator, kind: BenignKind, ln_diameter: float) -> BenignLatents:
    """Latents of one patient, `ln_diameter` the centre's own offset; 8 to 30 mm, cysts from 11 mm to hold fluid."""
    # Large benign lesions also tend to be lobulated and fast: independent traits would make the task easier than it is.
    size, pace, speed, lobes = _COMMON * rng.standard_normal() + np.sqrt(1.0 - _COMMON**2) * rng.standard_normal(4)
    if kind == "cyst":
        return BenignLatents(
            kind=kind,
            diameter_mm=float(np.clip(18.0 * np.exp(0.30 * size + ln_diameter), 11.0, _LARGEST_MM)),
            axis_ratio=float(rng.uniform(1.0, 1.25)),
            irregularity=float(rng.uniform(0.01, 0.05)),
            ktrans=float(0.16 * np.exp(0.40 * pace)),
            kep=float(0.40 * np.exp(0.40 * speed)),
            plasma=0.02,
            heterogeneity=0.05,
            septa=0,
            wall_mm=float(rng.uniform(1.0, 2.2)),
            protein=float(rng.uniform(0.3, 0.9)) if rng.random() < _COMPLICATED else 0.0,
            feeder_mm=0.0,
        )
    lobulated = lobes > _LOBULATED_FROM
    return BenignLatents(
        kind=kind,
        diameter_mm=float(np.clip(20.0 * np.exp(0.34 * size + ln_diameter), 8.0, _LARGEST_MM)),
        axis_ratio=float(rng.uniform(1.0, 1.8)),
        irregularity=float(rng.uniform(0.12, 0.28) if lobulated else rng.uniform(0.03, 0.08)),
        # Myxoid ones take up as fast as cancers, sclerosed ones hardly; none washes out as cancers do.
        ktrans=float(0.15 * np.exp(0.42 * pace)),
        kep=float(np.clip(0.29 * np.exp(0.50 * speed), 0.06, 0.45)),
        plasma=0.015,
        heterogeneity=float(np.clip(0.12 * np.exp(0.5 * rng.standard_normal()), 0.03, 0.25)),
        septa=int(rng.integers(1, 4)) if rng.random() < _SEPTATE else 0,
        wall_mm=0.0,
        protein=0.0,
        feeder_mm=float(rng.uniform(0.5, 0.9)) if rng.random() < _FED else 0.0,
    )


def build_benign(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, latents: BenignLatents) -> Lesion:
    """The index lesion, where it lies and how it takes up contrast agent; a cyst's fluid is part of it."""
    grid = anatomy.grid
    pitch = float(np.mean(grid.spacing))
    radius = latents.diameter_mm / 2.0
    centre = place(rng, anatomy, breast, 0.8 * radius)
    box, offset = around(grid, centre, radius * 1.8 + 4.0)
    depth, _ = star_depth(
        rng, offset, radius, axis_ratio=latents.axis_ratio, irregularity=latents.irregularity, spiculation=0.0
    )
    depth = np.minimum(depth, np.minimum(anatomy.surface[box] - 2.5, 4.5 - anatomy.wall[box]))
    own = anatomy.breast[breast.side][box]
    share = edge_share(depth, pitch) * own
    uptake = np.exp(latents.heterogeneity * anatomy.texture[box]) * _septa(rng, offset, radius, latents.septa)
    fluids = {}
    if latents.kind == "cyst":
        fluid = edge_share(depth - latents.wall_mm, pitch) * own
        share = share - fluid
        fluids = {"cyst": fluid * np.float32(1.0 - latents.protein), "protein": fluid * np.float32(latents.protein)}
    return Lesion(
        box=box,
        share=share,
        ktrans=(latents.ktrans * uptake).astype(np.float32),
        kep=np.full(share.shape, latents.kep, np.float32),
        plasma=(latents.plasma * uptake).astype(np.float32),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        fluids=fluids,
    )


def _septa(
    rng: np.random.Generator, offset: npt.NDArray[np.float64], radius: float, count: int
) -> npt.NDArray[np.float64]:
    """Uptake left by `count` thin bent sheets that do not enhance, 0 to 1, where `offset` is `(z, y, x, 3)` in mm."""
    left = np.ones(offset.shape[:-1])
    for _ in range(count):
        across, along = np.linalg.qr(rng.standard_normal((3, 2)))[0].T
        bend = 0.15 * radius * np.sin(offset @ along * (2.0 / radius) + rng.uniform(0.0, 2 * np.pi))
        sheet = offset @ across - radius * rng.uniform(-0.5, 0.5) - bend
        left *= 1.0 - 0.75 * np.exp(-((sheet / _SEPTUM_MM) ** 2))
    return left
