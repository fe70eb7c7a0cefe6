"""MR images from tissue and contrast agent: spoiled gradient echo, fat suppression, coil, motion, Rician noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.phantom.anatomy import Anatomy
from shared.phantom.centres import Protocol
from shared.phantom.fields import axes_mm, spline_field
from shared.phantom.kinetics import ARRIVAL_S, parker_blood, tofts_concentration
from shared.phantom.lesions import Lesion
from shared.types import FloatArray

_RELAXIVITY_R1 = (4.1, 3.7)  # L/mmol/s at 1.5 and 3 T
_RELAXIVITY_R2 = 5.3  # L/mmol/s
_R2_STAR = 1.0 / 0.030  # 1/s, tissue without contrast agent
_FAT_SHIFT_HZ_PER_T = 3.4 * 42.577  # chemical shift of the main lipid peak against water
GLAND_GREY = 420.0  # stored value of unenhanced fibroglandular tissue at unit sensitivity


@dataclass(frozen=True, slots=True)
class Tissue:
    """T1 at 1.5 and 3 T, proton density, Ktrans and kep per minute, plasma volume; every tissue but fat is water."""

    t1_ms: tuple[float, float]
    density: float
    ktrans: float = 0.0
    kep: float = 1.0
    plasma: float = 0.0


# T1 of fibroglandular tissue and fat as in Rakow-Penner et al., J Magn Reson Imaging 2006;23:87.
TISSUES = {
    "gland": Tissue((1266.0, 1445.0), 0.85, ktrans=0.0195, kep=0.25, plasma=0.003),
    "fat": Tissue((296.0, 367.0), 1.0),
    "ligament": Tissue((1200.0, 1400.0), 0.75, ktrans=0.010, kep=0.25),
    "skin": Tissue((900.0, 1050.0), 0.75, ktrans=0.035, kep=0.35, plasma=0.01),
    "muscle": Tissue((1000.0, 1410.0), 0.75, ktrans=0.020, kep=0.50, plasma=0.01),
    "bone": Tissue((550.0, 650.0), 0.25, ktrans=0.015, kep=0.5),
    "lung": Tissue((1200.0, 1400.0), 0.06, ktrans=0.05, kep=0.8),
    "blood": Tissue((1480.0, 1900.0), 0.9),
    "fibroadenoma": Tissue((1300.0, 1480.0), 0.9, ktrans=0.128, kep=0.16, plasma=0.015),
    "cyst": Tissue((2900.0, 3200.0), 1.0),
    "protein": Tissue((700.0, 850.0), 1.0),  # fluid of a complicated cyst: protein or old blood shortens T1
    "node": Tissue((1200.0, 1400.0), 0.9, ktrans=0.250, kep=0.92, plasma=0.04),
    "lesion": Tissue((1380.0, 1560.0), 0.9),
}


def at_field(values: tuple[float, float], field_t: float) -> float:
    """Interpolate a property given at 1.5 and 3 T."""
    return values[0] + (values[1] - values[0]) * (field_t - 1.5) / 1.5


def spoiled_gradient_echo(t1_ms: float, density: float, concentration: FloatArray, protocol: Protocol) -> FloatArray:
    """Steady-state signal of a spoiled gradient echo for contrast agent `concentration` in mmol/L.

    `S = M0 sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE R2*)`, with `R1` and `R2*` linear in concentration
    (Haase et al., J Magn Reson 1986;67:258).
    """
    r1 = 1000.0 / t1_ms + at_field(_RELAXIVITY_R1, protocol.field_t) * concentration
    e1 = np.exp(-protocol.repetition_ms / 1000.0 * r1)
    decay = np.exp(-protocol.echo_ms / 1000.0 * (_R2_STAR + _RELAXIVITY_R2 * concentration))
    angle = np.deg2rad(protocol.flip_deg)
    return np.asarray(density * np.sin(angle) * (1.0 - e1) / (1.0 - np.cos(angle) * e1) * decay, dtype=np.float32)


def tissue_signal(name: str, protocol: Protocol) -> FloatArray:
    """Signal of a pure tissue before contrast agent and at each post-contrast time, `(1 + time,)`."""
    tissue = TISSUES[name]
    times = protocol.post_times_s
    if name == "blood":
        agent = parker_blood((np.array(times) - ARRIVAL_S) / 60.0).astype(np.float32)
    else:
        maps = (np.array(value, np.float32) for value in (tissue.ktrans, tissue.kep, tissue.plasma))
        agent = tofts_concentration(times, *maps)
    t1 = at_field(tissue.t1_ms, protocol.field_t)
    return spoiled_gradient_echo(t1, tissue.density, np.concatenate([[0.0], agent]).astype(np.float32), protocol)


def noiseless_phases(
    anatomy: Anatomy, lesion: Lesion, background: FloatArray, protocol: Protocol
) -> tuple[FloatArray, FloatArray]:
    """Water signal `(1 + time, z, y, x)` and fat signal `(z, y, x)` before coil, suppression and noise.

    `background` scales the uptake of fibroglandular tissue in each voxel; 1 is the mean patient.
    """
    shape = anatomy.grid.shape
    count = 1 + len(protocol.post_times_s)
    water = np.zeros((count, *shape), np.float32)
    for name, share in anatomy.fractions.items():
        if name == "fat":
            continue
        signal = tissue_signal(name, protocol)
        water[0] += signal[0] * share
        if (signal[1:] != signal[0]).any():
            uptake = share * background if name == "gland" else share
            for phase in range(1, count):
                water[phase] += (signal[phase] - signal[0]) * uptake
    water[1:] += water[0]
    agent = tofts_concentration(protocol.post_times_s, lesion.ktrans, lesion.kep, lesion.plasma)
    tissue = TISSUES["lesion"]
    t1 = at_field(tissue.t1_ms, protocol.field_t)
    levels = np.concatenate([np.zeros((1, *lesion.share.shape), np.float32), agent])
    water[(slice(None), *lesion.box)] += lesion.share * spoiled_gradient_echo(t1, tissue.density, levels, protocol)
    return water, anatomy.fractions["fat"] * tissue_signal("fat", protocol)[0]


def residual_fat(rng: np.random.Generator, anatomy: Anatomy, protocol: Protocol) -> FloatArray:
    """Share of the fat signal left after suppression, `(z, y, x)`: a smooth base, and patches where it failed."""
    base = protocol.residual_fat * np.exp(0.25 * spline_field(rng, anatomy.grid, 55.0))
    patch = 1.0 / (1.0 + np.exp(4.0 * (1.7 - spline_field(rng, anatomy.grid, 50.0))))
    failure = min(0.7, 2.0 * protocol.residual_fat)
    return np.asarray(np.clip(base + patch * failure, 0.0, 1.0), dtype=np.float32)


def coil_sensitivity(rng: np.random.Generator, anatomy: Anatomy, protocol: Protocol) -> FloatArray:
    """Receive sensitivity `(z, y, x)`: about 1 in the breasts, lower towards the chest, with smooth variation."""
    _, y, _ = axes_mm(anatomy.grid)
    slope = -(y + 30.0) / 45.0
    field = 0.50 * spline_field(rng, anatomy.grid, 65.0) + 0.70 * np.clip(slope, -1.6, 1.2)
    return np.asarray(np.exp(protocol.bias * field), dtype=np.float32)


def displace(rng: np.random.Generator, volume: FloatArray, anatomy: Anatomy, motion_mm: float) -> FloatArray:
    """Move a volume by a smooth displacement of standard deviation `motion_mm`, to first order in its gradient.

    First order suffices for less than a voxel and takes a twentieth of the time of an interpolation.
    """
    slopes = np.gradient(volume, *anatomy.grid.spacing)
    moved = volume.copy()
    for slope in slopes:
        shift = motion_mm * (0.7 * rng.standard_normal() + 0.5 * spline_field(rng, anatomy.grid, 60.0))
        moved += slope * np.clip(shift, -1.5, 1.5).astype(np.float32)
    return np.maximum(moved, 0.0)


def acquire(
    rng: np.random.Generator,
    anatomy: Anatomy,
    lesion: Lesion,
    background: FloatArray,
    *,
    protocol: Protocol,
    motion_mm: float,
) -> FloatArray:
    """Magnitude images, float32 `(1 + time, z, y, x)`, before rounding to grey levels.

    Water and fat add up with the phase of their chemical shift at the echo time. Noise is complex, so magnitudes are
    Rician, and air is Rayleigh distributed (mean over standard deviation 1.91).
    """
    water, fat = noiseless_phases(anatomy, lesion, background, protocol)
    sensitivity = coil_sensitivity(rng, anatomy, protocol)
    gland = float(tissue_signal("gland", protocol)[0])
    scale = np.float32(GLAND_GREY / gland)
    sigma = np.float32(GLAND_GREY / protocol.snr)
    turn = 2 * np.pi * _FAT_SHIFT_HZ_PER_T * protocol.field_t * protocol.echo_ms / 1000.0
    lipid = fat * residual_fat(rng, anatomy, protocol) * sensitivity * scale
    images = np.empty_like(water)
    for phase in range(len(water)):
        level = (sensitivity * scale) * water[phase]
        real, imaginary = level + np.float32(np.cos(turn)) * lipid, np.float32(np.sin(turn)) * lipid
        if phase:
            real = displace(rng, np.hypot(real, imaginary), anatomy, motion_mm)
            imaginary = np.zeros_like(real)
        noise = rng.standard_normal((2, *real.shape), dtype=np.float32)
        images[phase] = np.hypot(real + sigma * noise[0], imaginary + sigma * noise[1])
    return images
