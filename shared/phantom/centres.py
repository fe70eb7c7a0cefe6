"""Four centres: the protocol of their scanners and the population of their patients.

`shift` scales how far the centres differ from a consensus: at 0 all have one protocol and population, at 1 their own;
above 1 they differ even more. Manufacturer, orientation and field of view do not depend on it, because the DICOM reader
must cope with them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from shared.errors import ConfigError

SUBTYPES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
DENSITIES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Protocol:
    """Spoiled gradient echo with fat suppression; units are in the names of the fields."""

    slice_mm: float
    pixel_mm: float
    repetition_ms: float
    echo_ms: float
    flip_deg: float
    post_times_s: tuple[float, ...]
    residual_fat: float
    snr: float  # signal-to-noise ratio of unenhanced fibroglandular tissue
    bias: float  # standard deviation of the logarithm of the coil's sensitivity
    field_t: float


@dataclass(frozen=True, slots=True)
class Population:
    """Patients of a centre; shares add up to 1."""

    prevalence: tuple[float, ...]  # by SUBTYPES
    density: tuple[float, ...]  # by DENSITIES
    ln_diameter: float  # added to the logarithm of the lesion's diameter
    background: float  # early background enhancement, relative to the mean patient
    motion_mm: float  # standard deviation of displacement between phases


@dataclass(frozen=True, slots=True)
class Centre:
    """One hospital: fixed facts of its scanner, and the protocol and population that `shift` scales."""

    key: str
    site: str
    manufacturer: str
    model: str
    field_strength_t: float
    orientation: Literal["axial", "axial_flipped", "sagittal"]
    series: Literal["per_phase", "single", "per_phase_untimed"]
    protocol: Protocol
    population: Population


CONSENSUS_PROTOCOL = Protocol(2.4, 1.6, 4.8, 2.1, 10.7, (90.0, 180.0, 270.0), 0.14, 23.0, 0.32, 2.25)
CONSENSUS_POPULATION = Population((0.40, 0.27, 0.15, 0.18), (0.10, 0.38, 0.38, 0.14), 0.0, 1.0, 0.35)

_A = Centre(
    key="A",
    site="centre-a",
    manufacturer="SIEMENS",
    model="Skyra",
    field_strength_t=3.0,
    orientation="axial",
    series="per_phase",
    protocol=Protocol(2.4, 1.6, 4.2, 1.6, 10.0, (85.0, 170.0, 255.0), 0.12, 26.0, 0.25, 3.0),
    population=Population((0.45, 0.25, 0.12, 0.18), (0.08, 0.36, 0.40, 0.16), 0.0, 1.0, 0.3),
)
_B = Centre(
    key="B",
    site="centre-b",
    manufacturer="GE MEDICAL SYSTEMS",
    model="Signa HDxt",
    field_strength_t=1.5,
    orientation="sagittal",
    series="per_phase_untimed",
    protocol=Protocol(2.6, 1.7, 5.4, 2.4, 12.0, (95.0, 200.0, 300.0), 0.22, 19.0, 0.40, 1.5),
    population=Population((0.35, 0.30, 0.17, 0.18), (0.14, 0.42, 0.34, 0.10), 0.08, 0.85, 0.5),
)
_C = Centre(
    key="C",
    site="centre-c",
    manufacturer="Philips Medical Systems",
    model="Achieva",
    field_strength_t=3.0,
    orientation="axial_flipped",
    series="single",
    protocol=Protocol(2.0, 1.5, 5.0, 2.3, 10.0, (75.0, 150.0, 225.0), 0.07, 23.0, 0.30, 3.0),
    population=Population((0.40, 0.25, 0.15, 0.20), (0.06, 0.32, 0.42, 0.20), -0.08, 1.25, 0.3),
)
_D = Centre(
    key="D",
    site="centre-d",
    manufacturer="SIEMENS",
    model="Avanto",
    field_strength_t=1.5,
    orientation="axial",
    series="per_phase",
    protocol=Protocol(3.0, 1.9, 6.5, 3.0, 15.0, (120.0, 240.0, 360.0), 0.55, 12.0, 0.65, 1.5),
    population=Population((0.30, 0.30, 0.18, 0.22), (0.16, 0.40, 0.32, 0.12), 0.0, 1.1, 0.7),
)
CENTRES = {centre.key: centre for centre in (_A, _B, _C, _D)}


def find_centre(name: str) -> Centre:
    """Centre by key (`"A"`) or by site name (`"centre-a"`).

    Raises
    ------
    ConfigError
        There is no such centre.

    """
    for centre in CENTRES.values():
        if name in {centre.key, centre.site}:
            return centre
    known = ", ".join(centre.site for centre in CENTRES.values())
    raise ConfigError(f"the phantom has no centre {name!r}; there are {known}")


def protocol_at(centre: Centre, shift: float) -> Protocol:
    """Protocol of a centre at `shift`; values keep a floor, so that noise and spacing stay physical."""
    values: dict[str, Any] = {}
    for item in fields(Protocol):
        here, common = np.array(getattr(centre.protocol, item.name)), np.array(getattr(CONSENSUS_PROTOCOL, item.name))
        mixed = np.maximum(common + shift * (here - common), 0.25 * np.minimum(here, common))
        values[item.name] = tuple(mixed.tolist()) if mixed.ndim else float(mixed)
    return Protocol(**values)


def population_at(centre: Centre, shift: float, densities: str = "") -> Population:
    """Population of a centre at `shift`; shares stay at least 2% and add up to 1.

    `densities` are the letters of the only breast densities that the centre's patients have; empty: all.
    """

    def shares(here: tuple[float, ...], common: tuple[float, ...]) -> tuple[float, ...]:
        mixed = np.clip(np.array(common) + shift * (np.array(here) - np.array(common)), 0.02, None)
        return tuple((mixed / mixed.sum()).tolist())

    here, common = centre.population, CONSENSUS_POPULATION
    return Population(
        prevalence=shares(here.prevalence, common.prevalence),
        density=_only(densities, shares(here.density, common.density)),
        ln_diameter=common.ln_diameter + shift * (here.ln_diameter - common.ln_diameter),
        background=max(0.2, common.background + shift * (here.background - common.background)),
        motion_mm=max(0.0, common.motion_mm + shift * (here.motion_mm - common.motion_mm)),
    )


def _only(densities: str, shares: tuple[float, ...]) -> tuple[float, ...]:
    if not densities:
        return shares
    kept = [share if letter in densities else 0.0 for letter, share in zip(DENSITIES, shares, strict=True)]
    return tuple(share / sum(kept) for share in kept)
