"""Anatomy of a healthy patient: the share of skin, muscle, rib, lung, heart, gland, fat and ligament in every voxel.

Depths are signed distances in mm, positive inside. They give every edge its partial volume without supersampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.phantom.breasts import Breast, breast_depth, torso_front
from shared.phantom.fields import axes_mm, edge_share, power_law_fields, spline_field
from shared.phantom.parenchyma import glandular_share, ligaments
from shared.types import BoolArray, FloatArray, Grid, Side

_SUBCUTANEOUS = 6.0  # depth of the pectoral muscle below the torso's surface, mm
_MEDIAL = 8.0  # how far a breast's rounded edge reaches across the midline of the sternum, mm
_SKIN = 2.0  # thickness, mm
_CLEAR_OF_SKIN, _CLEAR_OF_MUSCLE = 3.5, 3.0  # least distance of gland from skin and from muscle, mm
_BREAST_EDGE, _GLAND_EDGE = 1.12, 0.97  # relative radius at which breast and gland end


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Tissue shares of every voxel, and the fields that decide where lesions, vessels and contrast agent go.

    Arrays are `(z, y, x)` on the acquisition grid. Shares add up to the body's share of the voxel; air has none.
    """

    grid: Grid
    breasts: tuple[Breast, ...]  # in the field of view
    fractions: dict[str, FloatArray]  # share of each tissue, float32
    surface: FloatArray  # depth below the skin, mm
    wall: FloatArray  # depth below the front of the torso, mm; negative within a breast
    texture: FloatArray  # power-law field of unit variance
    breast: dict[Side, BoolArray]  # voxels of each breast
    score: FloatArray  # glandular score: positive in gland


def _width_across(depth: FloatArray, grid: Grid) -> FloatArray:
    """Extent of a voxel along the normal of the nearest surface, mm: the width over which an edge fills it partly."""
    slopes = np.gradient(depth, *grid.spacing)
    length = np.sqrt(sum((slope**2 for slope in slopes), start=np.float32(1e-6)))
    extent = sum((np.abs(slope) * step for slope, step in zip(slopes, grid.spacing, strict=True)), start=np.float32(0))
    return np.asarray(np.maximum(extent / length, min(grid.spacing)), dtype=np.float32)


def _smooth_union(first: FloatArray, second: FloatArray, width: float) -> FloatArray:
    """Union of two solids given by their depths, its inner edge rounded over about `width` mm."""
    overlap = np.clip(1.0 - np.abs(first - second) / width, 0.0, None)
    return np.asarray(np.maximum(first, second) + overlap**2 * (width / 4.0), dtype=np.float32)


def build_anatomy(rng: np.random.Generator, grid: Grid, breasts: tuple[Breast, ...]) -> Anatomy:
    """Compute the tissue shares of a healthy patient on a grid; `breasts` are those in the field of view."""
    z, y, x = axes_mm(grid)
    pitch = float(np.mean(grid.spacing))
    slope = np.cos(np.arctan(np.gradient(torso_front(x.ravel()), x.ravel()))).astype(np.float32)
    wall = (y - torso_front(x).astype(np.float32)) * slope + 0.03 * z
    lean = 2.5 * spline_field(rng, grid, 45.0)
    surface, radius, nipple = wall, np.full(grid.shape, 9.0, np.float32), np.zeros(grid.shape, np.float32)
    for breast in breasts:
        slab = np.nonzero(breast.lateral * x.ravel() > -_MEDIAL)[0]
        part = np.s_[:, :, slab[0] : slab[-1] + 1]
        half = Grid(
            (grid.shape[0], grid.shape[1], len(slab)),
            grid.spacing,
            (float(x.ravel()[slab[0]]), grid.origin[1], grid.origin[2]),
        )
        depth, distance = breast_depth(breast, half, lean[part])
        surface = np.broadcast_to(surface, grid.shape).copy() if surface is wall else surface
        surface[part] = _smooth_union(surface[part], depth, 16.0)
        radius[part] = np.minimum(radius[part], distance)
        nx, ny, nz = breast.nipple
        bump = 4.6 - np.sqrt((x - nx - breast.lateral * 5.0) ** 2 + 0.6 * (y - ny - 1.0) ** 2 + (z - nz) ** 2)
        nipple = np.maximum(nipple, edge_share(bump, pitch))
        surface = np.maximum(surface, bump)
    surface = surface + 0.25 * lean
    across = _width_across(surface, grid)
    body = edge_share(surface, across)
    texture, fine = power_law_fields(rng, grid, 3.3, 45.0)
    inside: dict[Side, BoolArray] = {}
    in_breast = (radius < _BREAST_EDGE) & (wall < _SUBCUTANEOUS - 1.0) & (surface > 0.0)
    for breast in breasts:
        inside[breast.side] = in_breast & (breast.lateral * x > 0.0)
    fractions = _chest(rng, grid, wall)
    skin = body * np.maximum(1.0 - edge_share(surface - _SKIN, across), nipple)
    soft = np.clip(body - skin, 0.0, None)
    deep = sum(fractions.values(), start=np.float32(0.0))
    for name in fractions:
        fractions[name] *= soft
    fat = soft * np.clip(1.0 - deep, 0.0, 1.0)
    gland, score = np.zeros(grid.shape, np.float32), np.full(grid.shape, -9.0, np.float32)
    for breast in breasts:
        room = inside[breast.side] & (surface > _CLEAR_OF_SKIN) & (wall < _SUBCUTANEOUS - _CLEAR_OF_MUSCLE)
        room &= radius < _GLAND_EDGE
        gland[room], score[room] = glandular_share(
            rng,
            grid,
            breast,
            room=room,
            volume=int(inside[breast.side].sum()),
            skin_depth=surface[room] - _CLEAR_OF_SKIN,
            texture=texture[room],
        )
    gland *= fat * np.clip(0.90 + 0.10 * fine, 0.55, 1.0)
    ligament = ligaments(rng, grid, fine) * (fat - gland) * in_breast
    fractions |= {"skin": skin, "gland": gland, "ligament": ligament, "fat": fat - gland - ligament}
    return Anatomy(grid, breasts, fractions, surface, np.asarray(wall), texture, inside, score)


def _chest(rng: np.random.Generator, grid: Grid, wall: FloatArray) -> dict[str, FloatArray]:
    """Shares of pectoral muscle, ribs with intercostal muscle, heart and lung, before the skin takes its share."""
    z, y, x = axes_mm(grid)
    pitch = float(np.mean(grid.spacing))
    side = np.abs(x)
    thick = rng.uniform(7.0, 10.0) * np.clip((side - 12.0) / 25.0, 0.15, 1.0) * (1.0 + 0.006 * z)
    lean = wall + 1.2 * spline_field(rng, grid, 35.0)
    pectoral = edge_share(lean - _SUBCUTANEOUS, pitch) * edge_share(_SUBCUTANEOUS + thick - lean, pitch)
    inner = _SUBCUTANEOUS + thick + 2.0
    wave = np.cos(2 * np.pi * (z + 0.35 * side + rng.uniform(0.0, 28.0)) / 28.0)
    cage = edge_share(lean - inner, pitch) * edge_share(inner + 9.0 - lean, pitch)
    sternum = edge_share(20.0 - side, 4.0)
    bone = cage * np.maximum(edge_share(wave - 0.15, 0.25), sternum)
    muscle = np.maximum(pectoral, (cage - bone) * 0.8)
    chest = edge_share(lean - inner - 9.5, pitch)
    hx, hy, hz = rng.uniform(22.0, 32.0), rng.uniform(62.0, 68.0), rng.uniform(-25.0, -10.0)
    reach = 1.0 - np.sqrt(((x - hx) / 52.0) ** 2 + ((y - hy) / 34.0) ** 2 + ((z - hz) / 46.0) ** 2)
    heart = chest * edge_share(34.0 * reach, pitch)
    wall_of_heart = heart * (1.0 - edge_share(34.0 * reach - 5.0, pitch))
    return {
        "muscle": muscle + wall_of_heart,
        "bone": bone,
        "blood": heart - wall_of_heart,
        "lung": chest - heart,
    }
