"""Ducts, Cooper's ligaments and stray fibres of a breast: curves in its body, drawn into any view of it.

A ligament is a sheet; seen edge-on it is a line whose brightness is its depth along the beam. Curves therefore carry a
cross-section, mm2, and not a radius.
"""

from __future__ import annotations

import numpy as np

from shared.phantom.breasts import Breast
from shared.phantom.compression import Compression, Points
from shared.types import FloatArray

Strands = tuple[Points, Points]
"""Points `(curve, point, 3)` as `(x, y, z)`, mm, and the cross-section at each, mm2 `(curve, point)`."""
_POINTS = 24
_LOBES, _BRANCHES = 15, 7  # ducts that open at the nipple, and branches of each
_LIGAMENTS = 170
_FIBRES = 110
_JOINED_MM = 3.0  # points of a vessel that lie farther apart belong to two branches
_STEP = 0.5  # pixels between the points that a curve is drawn by


def grow_strands(rng: np.random.Generator, breast: Breast) -> list[Strands]:
    """Draw the curves of one breast: ducts, ligaments, fibres."""
    t = np.linspace(0.0, 1.0, _POINTS)[None, :]
    count = _LOBES * _BRANCHES
    lobe_turn = np.repeat(rng.uniform(0.0, 2 * np.pi, _LOBES), _BRANCHES)[:, None]
    lobe_deep = np.repeat(rng.uniform(0.25, 0.80, _LOBES), _BRANCHES)[:, None]
    turn = lobe_turn + t * rng.normal(0.0, 0.45, (count, 1)) + 0.10 * _wander(rng, count)
    rise = 1.50 - t**0.8 * rng.uniform(0.5, 1.5, (count, 1))
    deep = 0.98 + t**0.7 * (lobe_deep + rng.normal(0.0, 0.10, (count, 1)) - 0.98) + 0.03 * _wander(rng, count)
    ducts = _place(breast, rise, turn, deep), (1.0 - 0.75 * t) * np.exp(rng.normal(0.0, 0.4, (count, 1)))

    # Ligaments run from gland to skin and bend; about half of them towards the nipple.
    turn = rng.uniform(0.0, 2 * np.pi, (_LIGAMENTS, 1)) + t * rng.normal(0.0, 0.30, (_LIGAMENTS, 1))
    rise = np.arcsin(rng.uniform(0.0, 0.98, (_LIGAMENTS, 1))) + t * rng.normal(0.12, 0.30, (_LIGAMENTS, 1))
    start = rng.uniform(0.35, 0.85, (_LIGAMENTS, 1))
    deep = start + (0.985 - start) * t ** rng.uniform(0.6, 1.8, (_LIGAMENTS, 1)) * rng.uniform(
        0.5, 1.0, (_LIGAMENTS, 1)
    )
    curves = _place(breast, rise + 0.04 * _wander(rng, _LIGAMENTS), turn + 0.05 * _wander(rng, _LIGAMENTS), deep)
    ligaments = curves, 0.9 * np.exp(rng.normal(0.0, 0.5, (_LIGAMENTS, 1))) * np.sin(np.pi * (0.1 + 0.8 * t))

    turn = rng.uniform(0.0, 2 * np.pi, (_FIBRES, 1)) + t * rng.normal(0.0, 0.5, (_FIBRES, 1))
    rise = np.arcsin(rng.uniform(0.0, 0.95, (_FIBRES, 1))) + t * rng.normal(0.0, 0.5, (_FIBRES, 1))
    deep = np.clip(rng.uniform(0.1, 0.95, (_FIBRES, 1)) + t * rng.normal(0.0, 0.25, (_FIBRES, 1)), 0.02, 0.97)
    curves = _place(breast, rise + 0.08 * _wander(rng, _FIBRES), turn + 0.08 * _wander(rng, _FIBRES), deep)
    fibres = curves, 0.55 * np.exp(rng.normal(0.0, 0.5, (_FIBRES, 1))) * np.sin(np.pi * (0.08 + 0.84 * t))
    return [ducts, ligaments, fibres]


def draw_strands(geometry: Compression, strands: Strands, pull: FloatArray | None = None) -> FloatArray:
    """Path through curves, mm, `(row, column)`: the volume of each short piece over the area of its pixels."""
    points, area = strands
    count = points.shape[1]
    place, _ = geometry.project(points.reshape(-1, 3))
    place = place.reshape(*points.shape[:2], 2)
    length = np.linalg.norm(np.diff(place, axis=1), axis=-1).sum(axis=1)
    fine = int(np.clip(np.ceil(np.quantile(length, 0.98) / _STEP), count, 400)) if len(length) else count
    position = np.linspace(0.0, count - 1.0, fine)
    low = np.minimum(position.astype(int), count - 2)
    part = (position - low)[None, :]
    line = place[:, low] * (1.0 - part[..., None]) + place[:, low + 1] * part[..., None]
    weight = np.broadcast_to(area, points.shape[:2])
    weight = weight[:, low] * (1.0 - part) + weight[:, low + 1] * part
    # A piece that runs along the beam is short in the picture and long in the body: its length is the body's.
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(axis=1)[:, None] / fine * geometry.stretch
    if pull is not None:
        line = pulled(line, pull)
    return splat(geometry.shape, line.reshape(-1, 2), (weight * steps).ravel() / geometry.pixel**2)


def draw_tree(geometry: Compression, points: Points, radius: Points) -> FloatArray:
    """Path through vessels, mm: centre lines `(n, 3)` of branches one after the other, and radii, mm."""
    gap = np.linalg.norm(np.diff(points, axis=0), axis=1)
    joined = gap < _JOINED_MM
    pairs = np.stack([points[:-1][joined], points[1:][joined]], axis=1)
    return draw_strands(geometry, (pairs, np.pi * np.stack([radius[:-1][joined], radius[1:][joined]], axis=1) ** 2))


def pulled(line: Points, pull: FloatArray) -> Points:
    """Pixels `(..., 2)` moved as the body around a cancer is: by minus the displacement of what is read there."""
    row = np.clip(np.rint(line[..., 0]).astype(int), 0, pull.shape[1] - 1)
    column = np.clip(np.rint(line[..., 1]).astype(int), 0, pull.shape[2] - 1)
    return np.asarray(line - np.stack([pull[0][row, column], pull[1][row, column]], axis=-1))


def splat(shape: tuple[int, int], place: Points, amount: Points) -> FloatArray:
    """Sum of amounts at fractional pixels `(n, 2)`, each shared linearly among the four nearest pixels."""
    low = np.floor(place).astype(np.int64)
    part = place - low
    total = np.zeros(shape[0] * shape[1])
    for down in (0, 1):
        for right in (0, 1):
            row, column = low[:, 0] + down, low[:, 1] + right
            inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
            share = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1]) * amount
            total += np.bincount(
                row[inside] * shape[1] + column[inside], weights=share[inside], minlength=shape[0] * shape[1]
            )
    return total.reshape(shape).astype(np.float32)


def _place(breast: Breast, rise: Points, turn: Points, deep: Points) -> Points:
    """Points by their angle from the base (0) to the nipple (pi/2), around the axis, and relative depth (1: skin)."""
    rise, turn, deep = np.broadcast_arrays(np.clip(rise, -0.1, np.pi / 2), turn, deep)
    direction = np.stack(
        [np.cos(rise) * np.cos(turn) * breast.lateral, -np.sin(rise), np.cos(rise) * np.sin(turn)], axis=-1
    )
    return breast.place(direction.reshape(-1, 3), np.clip(deep, 0.02, 0.985).ravel()).reshape(direction.shape)


def _wander(rng: np.random.Generator, count: int) -> Points:
    """Random walks along the curves that begin at 0, about 1 at their end."""
    return np.asarray(np.cumsum(rng.standard_normal((count, _POINTS)), axis=1) / np.sqrt(_POINTS))
