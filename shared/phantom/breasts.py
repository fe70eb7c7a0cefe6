"""The shape of the breasts: half superellipsoids on the front of the chest, left and right alike but never equal.

World coordinates are LPS in mm. The skin over the sternum is at `x = y = 0`; the patient lies prone, so the breasts
hang towards negative `y`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.phantom.fields import axes_mm
from shared.types import FloatArray, Grid, Side

_TORSO_X, _TORSO_Y = 175.0, 105.0  # semi-axes of the chest, mm


@dataclass(frozen=True, slots=True)
class Breast:
    """Half a superellipsoid on the chest wall; lengths in mm."""

    side: Side
    centre: tuple[float, float, float]  # (x, y, z) of its base
    semi_axes: tuple[float, float, float]  # along x, y, z
    exponent: float
    density: str

    @property
    def lateral(self) -> float:
        """Sign of `x` that points away from the sternum."""
        return 1.0 if self.side == "left" else -1.0

    @property
    def nipple(self) -> tuple[float, float, float]:
        """Apex, `(x, y, z)`."""
        x, y, z = self.centre
        return x, y - self.semi_axes[1], z

    def place(self, direction: npt.NDArray[np.float64], depth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Points `(n, 3)` as `(x, y, z)` along unit directions, at relative depth 0 (base's centre) to 1 (surface)."""
        x, y, z = np.abs(direction).T
        radius = ((x**2 + z**2) ** (self.exponent / 2) + y**self.exponent) ** (1 / self.exponent)
        return np.asarray(
            np.array(self.centre) + direction * np.array(self.semi_axes) * (depth / np.maximum(radius, 1e-6))[:, None]
        )


def draw_breasts(rng: np.random.Generator, density: str) -> tuple[Breast, Breast]:
    """Draw the left and the right breast of one patient: alike, never equal."""
    fatty = {"a": 1.08, "b": 1.04, "c": 0.98, "d": 0.92}[density]
    width, depth, height = (
        fatty * rng.uniform(49.0, 57.0),
        fatty * rng.uniform(56.0, 76.0),
        fatty * rng.uniform(43.0, 52.0),
    )
    exponent, apart, level = rng.uniform(1.75, 2.35), rng.uniform(66.0, 71.0), rng.uniform(-4.0, 4.0)
    breasts = []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        unlike = (1.0 + 0.04 * rng.standard_normal(3)).tolist()
        x = sign * (apart + rng.normal(0.0, 1.0))
        breasts.append(
            Breast(
                side="left" if side == "left" else "right",
                centre=(x, float(torso_front(np.array(x))) + 5.0, level + rng.normal(0.0, 2.0)),
                semi_axes=(min(width * unlike[0], 59.0), min(max(depth * unlike[1], 50.0), 80.0), height * unlike[2]),
                exponent=exponent,
                density=density,
            )
        )
    return breasts[0], breasts[1]


def torso_front(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """`y` of the front of the chest at `x`, mm."""
    return np.asarray(_TORSO_Y * (1.0 - np.sqrt(np.clip(1.0 - (x / _TORSO_X) ** 2, 0.05, 1.0))))


def breast_depth(breast: Breast, grid: Grid, lean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Signed depth below a breast's surface, mm, and the relative radius (1 at the surface, 0 at the base)."""
    z, y, x = axes_mm(grid)
    cx, cy, cz = breast.centre
    ax, ay, az = breast.semi_axes
    v = (y - cy) / ay
    # The breast hangs a little outwards and its lower half is fuller than the upper one.
    u = (x - cx + breast.lateral * 5.0 * np.minimum(v, 0.0) + lean) / ax
    w = (z - cz + lean) / (az * (1.0 + 0.08 * np.tanh(-(z - cz) / az)))
    power = np.float32(breast.exponent)
    radius = ((u**2 + w**2) ** (power / 2) + np.abs(v) ** power) ** (1 / power)
    slopes = np.gradient(radius, *grid.spacing)
    steepness = np.sqrt(sum((slope**2 for slope in slopes), start=np.float32(1e-8)))
    depth = (1.0 - radius) / np.maximum(steepness, 0.4 / max(breast.semi_axes))
    return np.asarray(depth, dtype=np.float32), np.asarray(radius, dtype=np.float32)
