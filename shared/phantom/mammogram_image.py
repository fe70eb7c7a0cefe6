"""From the paths of the beam through tissue to grey levels: attenuation, noise, and each vendor's processing.

Attenuation is that of one effective energy near 20 keV: fat 0.46, gland 0.80 and carcinoma a few per cent more, /cm,
of the order that Johns and Yaffe measured (Phys Med Biol 1987;32:675). There is no scatter and no beam hardening.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from shared.types import BoolArray, FloatArray

MIDDLE = 0.55  # of the grey scale's sigmoid, between its ends
_ROUGH_MM = 3.5  # extent over which processing smooths the thickness it assumes
ATTENUATION = {"fat": 0.0456, "gland": 0.0802, "skin": 0.0802, "muscle": 0.0805, "lesion": 0.0844, "calcium": 1.2}
"""Per mm."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a unit and its processing make of a breast; `shift` moves it from a consensus to the centre's own."""

    contrast: float  # of gland against fat, relative: a harder beam has less
    noise: float  # standard deviation of the logarithm behind 50 mm of fat
    blur: float  # standard deviation of the point spread, pixels
    sharpen: float  # weight of the unsharp mask
    equalise: float  # share of the rim's missing thickness that processing makes up for
    steep: float  # slope of the grey scale in its middle, relative
    fog: float  # grey level of air, share of the scale


@dataclass(frozen=True, slots=True)
class Unit:
    """A centre's mammography unit: facts that do not depend on `shift`, and its look."""

    manufacturer: str
    model: str
    pixel_mm: float
    field_mm: tuple[float, float]  # height and width of the detector
    bits: int
    target: tuple[str, str]  # anode, filter
    kvp: float  # at 50 mm
    look: Look
    window: Literal["LINEAR", "SIGMOID"] = "LINEAR"  # SIGMOID: the curve is left to the viewer
    raw: bool = False  # a file For Processing beside each one For Presentation
    inverted: bool = False  # MONOCHROME1
    compressed: bool = False


CONSENSUS_LOOK = Look(1.0, 0.012, 0.55, 0.35, 0.72, 1.0, 0.0)
UNITS = {
    "A": Unit(
        manufacturer="HOLOGIC, Inc.",
        model="Selenia Dimensions",
        pixel_mm=0.42,
        field_mm=(220.0, 160.0),
        bits=12,
        target=("TUNGSTEN", "RHODIUM"),
        kvp=29.0,
        look=Look(1.0, 0.010, 0.50, 0.50, 0.85, 1.15, 0.0),
    ),
    "B": Unit(
        manufacturer="GE MEDICAL SYSTEMS",
        model="Senographe Essential",
        pixel_mm=0.40,
        field_mm=(200.0, 160.0),
        bits=14,
        target=("RHODIUM", "RHODIUM"),
        kvp=29.0,
        look=Look(0.96, 0.013, 0.55, 0.25, 0.75, 1.0, 0.0),
        window="SIGMOID",
        raw=True,
    ),
    "C": Unit(
        manufacturer="FUJIFILM Corporation",
        model="AMULET",
        pixel_mm=0.45,
        field_mm=(215.0, 165.0),
        bits=13,
        target=("TUNGSTEN", "RHODIUM"),
        kvp=28.0,
        look=Look(1.04, 0.012, 0.60, 0.40, 0.65, 0.95, 0.0),
        inverted=True,
    ),
    "D": Unit(
        manufacturer="SIEMENS",
        model="MAMMOMAT Inspiration",
        pixel_mm=0.47,
        field_mm=(210.0, 165.0),
        bits=16,
        target=("TUNGSTEN", "RHODIUM"),
        kvp=30.0,
        look=Look(0.90, 0.020, 0.80, 0.05, 0.15, 0.90, 0.05),
        compressed=True,
    ),
}


def look_at(key: str, shift: float) -> Look:
    """Look of a centre's pictures at `shift`; values keep a floor at zero."""
    own: dict[str, Any] = {}
    for item in fields(Look):
        here, common = getattr(UNITS[key].look, item.name), getattr(CONSENSUS_LOOK, item.name)
        own[item.name] = max(0.0, common + shift * (here - common))
    return Look(**own)


def expose(rng: np.random.Generator, paths: dict[str, FloatArray], look: Look) -> FloatArray:
    """Logarithm of the attenuation that the detector measured, 0 in air, `(row, column)`; paths by tissue, mm."""
    fat = ATTENUATION["fat"]
    total = sum(
        (path * np.float32(fat + look.contrast * (ATTENUATION[name] - fat)) for name, path in paths.items()),
        start=np.float32(0.0),
    )
    # Quantum noise falls with the root of the number of photons that arrive.
    behind = gaussian_filter(np.exp(-total), look.blur)
    counts = behind / np.float32(np.exp(-50.0 * fat)) / np.float32(look.noise**2 + 1e-12)
    noise = rng.standard_normal(total.shape, dtype=np.float32) / np.sqrt(counts)
    return np.asarray(-np.log(behind) + noise, dtype=np.float32)


def raw_counts(measured: FloatArray, bits: int) -> FloatArray:
    """Detector counts For Processing, proportional to the exposure: air is near the top of the range."""
    return np.clip(np.rint(np.exp(-measured) * 0.92 * (2.0**bits - 1.0)), 0.0, 2.0**bits - 1.0)


def processed(
    measured: FloatArray, whole: FloatArray, thickness: float, pixel: float, look: Look, inside: BoolArray
) -> tuple[FloatArray, tuple[float, float]]:
    """Picture in which tissue is bright, not yet through the grey scale, and the two levels of the scale's ends."""
    fat, gland = ATTENUATION["fat"], ATTENUATION["gland"]
    # Processing knows the thickness only roughly.
    missing = gaussian_filter(thickness - whole, _ROUGH_MM / pixel)
    level = measured + np.float32(look.equalise * fat) * missing * inside
    level = level + np.float32(look.sharpen) * (level - gaussian_filter(level, 3.0))
    # From fat to nearly pure gland, but narrower where the breast holds less: vendors adapt to it partly.
    span = look.contrast * (gland - fat) * thickness
    top = float(np.quantile(level[inside], 0.985)) - fat * thickness
    high = fat * thickness + 0.64 * span + 0.30 * max(top, 0.30 * span)
    low = fat * thickness - (0.18 + 0.40 * (1.0 - look.equalise)) * span
    return level, (low, high)


def slope_of(look: Look) -> float:
    """Slope of the grey scale's sigmoid, per distance between its ends."""
    return 3.6 * look.steep


def grey_scale(level: FloatArray, ends: tuple[float, float], look: Look) -> FloatArray:
    """Grey from 0 to 1: a sigmoid between the two levels, stretched so that the low one is black."""
    low, high = ends
    slope = slope_of(look)
    curve = 1.0 / (1.0 + np.exp(-slope * ((level - low) / (high - low) - MIDDLE)))
    black, white = (1.0 / (1.0 + np.exp(slope * edge)) for edge in (MIDDLE, MIDDLE - 1.0))
    return np.asarray(np.clip((curve - black) / (white - black), 0.0, 1.0), dtype=np.float32)
