"""Vessel trees: from the lateral thoracic and the internal mammary vessels over the breast towards the nipple."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.phantom.breasts import Breast
from shared.types import FloatArray, Grid

Points = npt.NDArray[np.float64]
_STEP_MM = 1.3
_THINNEST_MM, _FORKABLE_MM = 0.4, 0.55
_FORKS = 0.035  # probability of a fork at each step
_AREOLA = 1.35  # rise at which a vessel ends, just below the nipple
_LOWER_LATERAL, _LOWER_MEDIAL = 0.7, 0.5  # shares of breasts with these additional roots


@dataclass(slots=True)
class _Tip:
    """Growing end of a vessel.

    `rise` is the angle from the base (0) to the nipple (pi/2), `turn` the angle around the breast's axis; the relative
    `depth` drifts towards `goal`. `radius` and the remaining `length` are in mm.
    """

    rise: float
    turn: float
    depth: float
    goal: float
    heading: float
    radius: float
    length: float


def grow_tree(rng: np.random.Generator, breast: Breast) -> tuple[Points, Points]:
    """Centre lines of a breast's vessels: points `(n, 3)` as `(x, y, z)`, mm, and radii `(n,)`, mm.

    A branching random walk on shells of the breast. A branch starts on its parent, so each tree is connected to its
    root at the chest wall. Radii taper, and the cross-section about halves at a fork (Murray).
    """
    # Angle 0 points to lateral, pi/2 to the head: thoracic roots lie above and outside, mammary ones inside.
    roots = [(rng.normal(0.55, 0.25), rng.uniform(1.1, 1.7)), (rng.normal(np.pi - 0.35, 0.3), rng.uniform(0.9, 1.5))]
    roots += [(rng.uniform(-0.9, 0.1), rng.uniform(0.7, 1.1))] if rng.random() < _LOWER_LATERAL else []
    roots += [(rng.uniform(np.pi, np.pi + 0.9), rng.uniform(0.6, 1.0))] if rng.random() < _LOWER_MEDIAL else []
    tips = []
    for turn, radius in roots:
        depth = rng.uniform(0.80, 0.9)
        tips.append(_Tip(-0.15, turn, depth, depth, rng.normal(0.0, 0.4), radius, 95.0))
    path: list[tuple[float, float, float, float]] = []
    size = float(np.mean(breast.semi_axes))
    while tips:
        tip = tips.pop()
        drift = 0.0
        while tip.radius > _THINNEST_MM and tip.length > 0 and tip.rise < _AREOLA:
            path.append((tip.rise, tip.turn, tip.depth, tip.radius))
            drift = 0.8 * drift + 0.07 * rng.standard_normal()
            tip.heading = 0.985 * tip.heading + drift
            tip.rise += _STEP_MM / size * np.cos(tip.heading)
            tip.turn += _STEP_MM / size * np.sin(tip.heading) / max(np.cos(tip.rise), 0.25)
            tip.depth += 0.08 * (tip.goal - tip.depth) + 0.006 * rng.standard_normal()
            tip.depth = min(max(tip.depth, 0.25), 0.93)
            tip.radius *= 0.992
            tip.length -= _STEP_MM
            if rng.random() < _FORKS and tip.radius > _FORKABLE_MM:
                away = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.9)
                inwards = tip.depth * rng.uniform(0.75, 1.02)
                tips.append(
                    _Tip(
                        tip.rise,
                        tip.turn,
                        tip.depth,
                        min(inwards, 0.93),
                        tip.heading + away,
                        0.75 * tip.radius,
                        rng.uniform(12.0, 45.0),
                    )
                )
                tip.heading -= 0.4 * away
                tip.radius *= 0.88
    rise, turn, depth, radius = np.array(path).T
    direction = np.stack(
        [np.cos(rise) * np.cos(turn) * breast.lateral, -np.sin(rise), np.cos(rise) * np.sin(turn)], axis=1
    )
    return breast.place(direction, depth), radius


def feeding_vessel(rng: np.random.Generator, tree: Points, target: Points, radius: float) -> tuple[Points, Points]:
    """Wavy vessel from the nearest point of a tree to a lesion, the adjacent-vessel sign: points and radii, mm."""
    start = tree[np.argmin(np.linalg.norm(tree - target, axis=1))]
    count = max(4, int(np.linalg.norm(target - start) / _STEP_MM))
    t = np.linspace(0.0, 1.0, count)[:, None]
    sway = rng.normal(0.0, 3.0, (2, 3))
    points = start + t * (target - start) + np.sin(np.pi * t) * sway[0] + np.sin(2 * np.pi * t) * sway[1]
    return points, np.full(count, radius)


def draw_vessels(grid: Grid, points: Points, radius: Points) -> FloatArray:
    """Share of each voxel that is vessel, `(z, y, x)`: a point spreads its cross-section over nearby voxels."""
    spacing = np.array(grid.spacing)
    index = (points[:, ::-1] - np.array(grid.origin)[::-1]) / spacing
    nearest = np.rint(index).astype(np.int64)
    reach = np.stack(np.meshgrid([-1, 0, 1], [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2], indexing="ij"), -1).reshape(-1, 3)
    voxel = nearest[:, None, :] + reach[None]
    variance = (radius[:, None] / 2.0) ** 2 + (spacing**2 / 9.0)[None]  # (point, axis)
    distance = (((voxel - index[:, None, :]) * spacing) ** 2 / (2.0 * variance[:, None, :])).sum(-1)
    peak = np.minimum(1.0, radius**2 / (2.0 * np.prod(variance, axis=1) ** (1 / 3)))
    share = (peak[:, None] * np.exp(-distance)).astype(np.float32)
    good = np.all((voxel >= 0) & (voxel < np.array(grid.shape)), axis=-1)
    flat = np.ravel_multi_index(tuple(voxel[good].T), grid.shape)
    volume = np.zeros(int(np.prod(grid.shape)), np.float32)
    np.maximum.at(volume, flat, share[good])
    return volume.reshape(grid.shape)
