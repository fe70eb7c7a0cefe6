"""Fibroglandular tissue and Cooper's ligaments of the breasts."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from shared.phantom.breasts import Breast
from shared.phantom.fields import axes_mm, edge_share, spline_field
from shared.types import BoolArray, FloatArray, Grid

GLAND_SHARE = {"a": 0.06, "b": 0.19, "c": 0.36, "d": 0.55}  # share of the breast's volume by density
SCORE_SOFTNESS = 0.50  # width of the border between gland and fat, in units of the score
_DUCT_TABLE = (24, 48, 48)
_DUCTS_MEET_MM = 8.0  # distance in front of the nipple


def glandular_share(
    rng: np.random.Generator,
    grid: Grid,
    breast: Breast,
    *,
    room: BoolArray,
    volume: int,
    skin_depth: FloatArray,
    texture: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Fibroglandular share and score of some voxels, `(voxel,)` each.

    The score adds a prior for the centre of the breast, texture, ducts and the depth below the skin. It is shifted so
    that gland, where it is positive, fills the share of the breast that belongs to its density.

    `room` is where gland may lie, bool `(z, y, x)`, and `volume` the number of voxels of the whole breast; depth below
    the skin, mm, and texture are those of the voxels of `room`, `(voxel,)`.
    """
    z, y, x = (line.ravel() for line in axes_mm(grid))
    where = np.nonzero(room)
    px, py, pz = x[where[2]], y[where[1]], z[where[0]]
    cx, cy, cz = breast.centre
    ax, ay, az = breast.semi_axes
    u, v, w = (px - cx) / ax, (cy - py) / ay, (pz - cz) / az
    prior = 1.0 - np.sqrt(
        ((u - 0.10 * breast.lateral) / 0.72) ** 2 + ((w - 0.06) / 0.72) ** 2 + ((v - 0.52) / 0.55) ** 2
    )
    # Polar coordinates around a point in front of the nipple: strands along the radius are ducts and lobes.
    nx, ny, nz = breast.nipple
    forward = py - ny + _DUCTS_MEET_MM
    polar = np.stack(
        [
            4.0 * np.log(np.maximum(forward, 4.0)),
            11.0 * np.arctan2(px - nx, forward) + _DUCT_TABLE[1] / 2,
            11.0 * np.arctan2(pz - nz, forward) + _DUCT_TABLE[2] / 2,
        ]
    )
    ducts = map_coordinates(rng.standard_normal(_DUCT_TABLE, dtype=np.float32), polar, order=1, mode="wrap")
    deep = np.clip(skin_depth / 8.0, 0.0, 1.0)
    score = 1.15 * prior + 0.45 * texture + 0.34 * ducts + 0.9 * deep
    wanted = GLAND_SHARE[breast.density] * volume / max(len(score), 1)
    score -= np.quantile(score, float(np.clip(1.0 - wanted, 0.02, 0.99)))
    return edge_share(score, SCORE_SOFTNESS), score.astype(np.float32)


def ligaments(rng: np.random.Generator, grid: Grid, fine: FloatArray) -> FloatArray:
    """Cooper's ligaments: thin curved sheets where a smooth field is zero, frayed by texture."""
    sheet = np.abs(spline_field(rng, grid, 13.0) + 0.10 * fine)
    return np.asarray(0.38 * np.exp(-((sheet / 0.13) ** 2)), dtype=np.float32)
