"""A breast between the two plates of a mammography unit: where each point of its body comes to lie.

The hanging breast of the MRI is squeezed along the direction of the beam and spreads in the plane of the plates. The
map is closed in form both ways. Along the beam a column of tissue keeps its order, so that a height in the compressed
breast is a share of the column; in the plane lengths are stretched by one factor.

A view has its own axes: depth, from the chest wall to the nipple, and `up`, along which the picture is displayed:
lateral in CC, towards the axilla in MLO. Pictures here have the chest wall at the left; the writer turns those of
right breasts. Real mammograms agree about a lesion's depth in CC and MLO to about 1 cm; these agree to a few mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from shared.phantom.breasts import Breast
from shared.types import FloatArray

View = Literal["CC", "MLO"]
Points = npt.NDArray[np.float64]

VIEWS: tuple[View, ...] = ("CC", "MLO")
_HANG_MM = 5.0  # how far the nipple hangs outwards; see `breasts`
_SHARE = (
    0.56  # compressed thickness as a share of the breast's own height; 59 mm +- 16 mm (Yaffe et al., Med Phys 2009)
)
_EDGE = 0.92  # radius of the free edge as a share of half the thickness
_CUT_MM = (5.0, 9.0)  # depth at which the detector begins, from the breast's base
_SKIN_MM = 1.2
_NIPPLE_MM = (4.6, 4.2, 6.0)  # radius and height of a nipple in profile, and the beam's path through it


@dataclass(frozen=True, slots=True)
class Compression:
    """One breast in one view; lengths in mm, `(row, column)` in pixels with the chest wall at column 0."""

    breast: Breast
    view: View
    angle: float  # of the beam from the vertical, radians
    thickness: float
    stretch: float  # of lengths in the plane of the plates
    cut: float  # depth at which the picture begins, from the breast's base
    pixel: float
    shape: tuple[int, int]  # of the picture
    level: float  # row of the breast's axis
    wave: tuple[float, float, float]  # gentle irregularity of the outline: two amplitudes and a phase
    tail: tuple[float, float]  # MLO: depth of the outline at the axilla and below the breast

    def columns_at(self, depth: Points, up: Points) -> tuple[Points, Points]:
        """Middle and half length of the uncompressed column of tissue at a place in the plane, uncompressed mm."""
        ax, ay, az = self.breast.semi_axes
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        power = self.breast.exponent
        # The cross-section at this depth is an ellipse; the column is its chord along the beam.
        reach = np.clip(1.0 - np.abs(depth / ay) ** power, 1e-3, None) ** (2.0 / power)
        a = (sine / ax) ** 2 + (cosine / az) ** 2
        b = up * cosine * sine * (1.0 / az**2 - 1.0 / ax**2)
        c = up**2 * ((cosine / ax) ** 2 + (sine / az) ** 2) - reach
        half = np.sqrt(np.maximum(b**2 - a * c, 1e-6)) / a
        return -b / a, np.maximum(half, 1.0)

    def project(self, points: Points) -> tuple[Points, Points]:
        """Pixels `(n, 2)` of points `(x, y, z)` as (row, column), and their heights above the plates' middle, mm."""
        depth, up, along = self._to_frame(points)
        middle, half = self.columns_at(depth, up)
        height = (along - middle) / half * self.thickness / 2.0
        return np.stack([self.level - up * self.stretch / self.pixel, self._column(depth)], axis=-1), height

    def body_points(self, pixels: Points, share: float) -> Points:
        """Points `(..., 3)` as `(x, y, z)` at pixels `(..., 2)` and one height, -1 to 1 in half thicknesses."""
        up = (self.level - pixels[..., 0]) * self.pixel / self.stretch
        depth = pixels[..., 1] * self.pixel / self.stretch + self.cut
        middle, half = self.columns_at(depth, up)
        along = middle + share * half
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        cx, cy, cz = self.breast.centre
        x = cx + self._hang(depth) + self.breast.lateral * (cosine * up - sine * along)
        return np.stack([x, cy - depth, cz + sine * up + cosine * along], axis=-1)

    def _to_frame(self, points: Points) -> tuple[Points, Points, Points]:
        cx, cy, cz = self.breast.centre
        depth = cy - points[..., 1]
        x = (points[..., 0] - cx - self._hang(depth)) * self.breast.lateral
        z = points[..., 2] - cz
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return depth, cosine * x + sine * z, cosine * z - sine * x

    def _hang(self, depth: Points) -> Points:
        return np.asarray(self.breast.lateral * _HANG_MM * np.clip(depth / self.breast.semi_axes[1], 0.0, 1.0))

    def _column(self, depth: Points) -> Points:
        return np.asarray((depth - self.cut) * self.stretch / self.pixel)

    @property
    def nipple(self) -> tuple[float, float]:
        """(row, column) at which the nipple's tip lies."""
        rows = np.arange(self.shape[0], dtype=np.float64)
        return self.level, float(np.interp(self.level, rows, self._outline(rows)))

    def _outline(self, rows: Points) -> Points:
        """Column at which the skin lies in each row; negative where there is none."""
        ax, ay, az = self.breast.semi_axes
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        wide = 1.0 / np.sqrt((cosine / ax) ** 2 + (sine / az) ** 2)
        up = (self.level - rows) * self.pixel / self.stretch
        first, second, phase = self.wave
        wide = wide * (1.0 + first * np.tanh(up / wide)) * 1.02
        relative = np.abs(up / wide)
        inner = np.clip(1.0 - relative**self.breast.exponent, 0.0, None) ** (1.0 / self.breast.exponent)
        # Outside, the outline goes on into the chest wall with the slope that it has there.
        inner = inner * (0.95 + 0.065 * np.exp(-((relative / 0.30) ** 2)))
        depth = ay * (inner - 3.0 * np.clip(relative - 1.0, 0.0, None))
        depth = depth + second * ay * np.sin(3.0 * up / wide + phase) * inner * np.clip(3 * relative, 0.0, 1.0)
        column = (depth - self.cut) * self.stretch / self.pixel
        if self.view == "MLO":
            axilla, fold = self.tail
            above = (axilla - 0.24 * (up * self.stretch - 60.0) - 1.5 * np.clip(20.0 - up, 0.0, None)) / self.pixel
            below = (fold + 0.10 * up - 1.5 * np.clip(up + 30.0, 0.0, None)) / self.pixel
            column = _smooth_maximum(_smooth_maximum(column, above, 40.0 / self.pixel), below, 14.0 / self.pixel)
            column = gaussian_filter1d(column, 7.0 / self.pixel, mode="nearest")
        return np.asarray(column)

    def depth_below_skin(self) -> FloatArray:
        """Distance of each pixel from the outline in the plane, mm, negative outside: `(row, column)`."""
        rows = np.arange(self.shape[0], dtype=np.float64)
        outline = self._outline(rows)
        slope = np.gradient(outline)
        columns = np.arange(self.shape[1])
        distance = (outline[:, None] - columns[None, :]) / np.sqrt(1.0 + np.clip(slope, -4.0, 4.0)[:, None] ** 2)
        return np.asarray(distance * self.pixel, dtype=np.float32)

    def thickness_map(self) -> tuple[FloatArray, FloatArray]:
        """Length of the beam's path through the whole breast and through skin and nipple, mm, `(row, column)`."""
        below = self.depth_below_skin()
        whole = _rounded(below, self.thickness)
        skin = whole - _rounded(below - _SKIN_MM, self.thickness - 2.0 * _SKIN_MM)
        # The nipple in profile: half of it stands out of the breast, half is firm tissue within.
        radius, height, firm = _NIPPLE_MM
        row, column = self.nipple
        down = (np.arange(self.shape[0], dtype=np.float32)[:, None] - row) * self.pixel / radius
        out = (np.arange(self.shape[1], dtype=np.float32)[None, :] - column) * self.pixel / height
        stands = 3.4 * radius * np.sqrt(np.clip(1.0 - down**2 - np.abs(out) ** 3, 0.0, None))
        within = np.minimum(firm * np.exp(-(down**2) - (out + 0.6) ** 2), 0.7 * (whole - skin))
        return np.maximum(whole, stands).astype(np.float32), np.maximum(skin + within, stands)


def _rounded(below: FloatArray, thickness: float) -> FloatArray:
    """Thickness of a slab with a rounded free edge."""
    left = 1.0 - np.clip(below / (_EDGE * thickness / 2.0), 0.0, 1.0)
    return np.asarray(thickness * np.sqrt(1.0 - left**2), dtype=np.float32)


def _smooth_maximum(first: Points, second: Points, width: float) -> Points:
    overlap = np.clip(1.0 - np.abs(first - second) / width, 0.0, None)
    return np.asarray(np.maximum(first, second) + overlap**2 * (width / 4.0))


def compress(
    rng: np.random.Generator,
    breast: Breast,
    view: View,
    pixel: float,
    field: tuple[float, float],
    deepest: float = np.inf,
) -> Compression:
    """Draw how a breast is positioned in a view; `field` is the detector's height and width, mm.

    `deepest` is the depth from the breast's base, mm, that must be in the picture: a lesion close to the chest wall is
    pulled onto the detector.
    """
    _, ay, az = breast.semi_axes
    angle = 0.0 if view == "CC" else float(np.deg2rad(rng.uniform(42.0, 52.0)))
    thickness = float(np.clip(_SHARE * 2.0 * az * np.exp(0.07 * rng.standard_normal()), 32.0, 75.0))
    shape = (round(field[0] / pixel), round(field[1] / pixel))
    level = shape[0] * (rng.normal(0.5, 0.015) if view == "CC" else rng.normal(0.58, 0.02))
    stretch = float(np.clip(0.5 * np.sqrt(2.0 * az / thickness) + 0.62, 1.1, 1.4))
    cut = min(float(rng.uniform(*_CUT_MM)), deepest)
    return Compression(
        breast=breast,
        view=view,
        angle=angle,
        thickness=thickness,
        stretch=stretch,
        cut=cut,
        pixel=pixel,
        shape=shape,
        level=float(level),
        wave=(rng.normal(0.0, 0.05), rng.normal(0.0, 0.012), rng.uniform(0.0, 2 * np.pi)),
        tail=(rng.uniform(0.62, 0.74) * (ay - cut) * stretch, rng.uniform(20.0, 30.0)),
    )
