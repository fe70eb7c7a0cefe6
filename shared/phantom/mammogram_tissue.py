"""What the beam of a mammogram meets in a healthy breast: paths through gland, lumps and muscle, mm a pixel.

Gland is the MRI anatomy's own, cut into layers parallel to the plates. MRI voxels are coarse, so each layer is given
detail of its own, which CC and MLO do not share: texture whose spectrum goes on with the anatomy's power law, streaks
that converge on the nipple, and thin septa between lobules of fat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter1d, map_coordinates

from shared.phantom.anatomy import Anatomy
from shared.phantom.compression import Compression, Points
from shared.phantom.fields import edge_share
from shared.phantom.parenchyma import SCORE_SOFTNESS
from shared.types import FloatArray

_LAYERS, _LUMP_LAYERS = 10, 18
_LATTICE_MM = 1.8  # step at which the anatomy is sampled in the plane
_LUMPS = ("fibroadenoma", "cyst", "protein", "node")
_SOFTNESS = 1.1  # width of the border between gland and fat within a layer, in units of the score
_ISOTROPIC, _STREAKS, _SEPTA = 0.48, 0.27, 0.20  # weights of texture and streaks in the score; share of a septum
_SEPTUM = 0.06  # width of septa in units of their field
_TILE = 512  # pixels of a tile of texture, as columns of the streaks' table
_RADII = 256  # the table's rows
_NORMAL = np.array([-1.64, -1.04, -0.67, -0.39, -0.13, 0.13, 0.39, 0.67, 1.04, 1.64], np.float32)  # mid-deciles
_PER_MM = 0.43  # tiles are drawn for pixels of this size, mm


@dataclass(frozen=True, slots=True)
class Texture:
    """Periodic fields of unit variance that all views of a patient take pieces of: a pair of each kind, float32."""

    isotropic: tuple[FloatArray, FloatArray]
    cells: tuple[FloatArray, FloatArray]
    streaks: tuple[FloatArray, FloatArray]  # (log radius, angle)


def draw_texture(rng: np.random.Generator) -> Texture:
    """Draw a patient's tiles."""
    return Texture(
        isotropic=_fields(rng, (_TILE, _TILE), 3.6, 1.0, _PER_MM / 26.0),
        cells=_fields(rng, (_TILE, _TILE), 6.5, 1.0, _PER_MM / 18.0),
        streaks=_fields(rng, (_RADII, _TILE), 2.6, 6.0, 0.014),
    )


def _fields(
    rng: np.random.Generator, shape: tuple[int, int], exponent: float, stretch: float, cut: float
) -> tuple[FloatArray, FloatArray]:
    """Two periodic fields whose power falls with frequency to the `-exponent`, stretched along the rows' axis."""
    rows, columns = (scipy.fft.fftfreq(count).astype(np.float32) for count in shape)
    squared = (rows[:, None] * np.float32(stretch)) ** 2 + columns[None, :] ** 2 + np.float32(cut**2)
    spectrum = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = scipy.fft.ifft2(spectrum * squared ** np.float32(-exponent / 4.0))
    return field.real / field.real.std(), field.imag / field.imag.std()


def gland_path(
    rng: np.random.Generator,
    geometry: Compression,
    anatomy: Anatomy,
    texture: Texture,
    *,
    whole: FloatArray,
    pull: FloatArray,
) -> FloatArray:
    """Path through gland and septa, mm, `(row, column)`; `whole` is the path through the breast.

    `pull` `(2, row, column)` displaces the fine structure, pixels: a cancer draws it towards itself.
    """
    inside = np.nonzero(whole > 0.0)
    row, column = (axis + part[inside] for axis, part in zip(inside, pull.astype(np.float32), strict=True))
    down, out = row - geometry.nipple[0], geometry.nipple[1] + 14.0 / geometry.pixel - column
    # Streaks bend: the angle at which they are read sways with the place.
    sway = _take(texture.cells[1], row / 3.0, column / 3.0)
    radius = np.log(np.maximum(np.hypot(down, out) * geometry.pixel, 3.0)) * (_RADII / 5.0)
    angle = np.arctan2(down, out) * (_TILE / np.pi) + 7.0 * sway
    streaks = _STREAKS * np.clip(np.hypot(down, out) * geometry.pixel / 45.0, 0.25, 1.0)  # ducts are one at the nipple
    lattice = _sample(geometry, anatomy, np.maximum(anatomy.score, -2.0), _LAYERS)
    lattice += _keep_volume(lattice, whole, geometry)
    total = np.zeros(len(row), np.float32)
    for layer in range(_LAYERS):
        base = _refine(geometry, lattice[layer])[inside]
        moves = rng.integers(0, _TILE, 6)
        iso = _take(texture.isotropic[layer % 2], row + moves[0], column + moves[1])
        ray = _take(texture.streaks[layer % 2], radius + moves[2], angle + rng.integers(-40, 40))
        cell = _take(texture.cells[layer % 2], row + moves[4], column + moves[5])
        near = np.clip((base + 2.8) / 1.2, 0.0, 1.0)  # far from gland there is no stray gland
        gland = base + near * (_ISOTROPIC * iso + streaks * ray)
        gland = _soft_share(gland) * (0.86 + 0.05 * iso)
        septum = _SEPTA * np.exp(-((cell / _SEPTUM) ** 2)) * np.clip(0.5 + 0.5 * ray, 0.0, 1.5)
        total += gland + septum * (1.0 - gland)
    path = np.zeros(geometry.shape, np.float32)
    path[inside] = total / _LAYERS * whole[inside]
    return path


def _soft_share(score: FloatArray) -> FloatArray:
    """Share of gland in a layer, by its score."""
    share = np.clip(0.5 + score / _SOFTNESS, 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share), dtype=np.float32)


def _keep_volume(lattice: FloatArray, whole: FloatArray, geometry: Compression) -> np.float32:
    """Shift of the score after which gland with its new detail fills the volume that it fills in the MRI."""
    step = _LATTICE_MM / geometry.pixel
    row, column = (
        np.minimum(np.rint(step * np.arange(n)).astype(int), size - 1)
        for n, size in zip(lattice.shape[1:], whole.shape, strict=True)
    )
    score = lattice[:, whole[np.ix_(row, column)] > 0.0].ravel()[::7]
    wanted = float(edge_share(score, SCORE_SOFTNESS).mean())
    spread = float(np.hypot(_ISOTROPIC, _STREAKS)) * _NORMAL
    low, high = -1.5, 1.5
    for _ in range(12):
        middle = 0.5 * (low + high)
        given = float(_soft_share(score[:, None] + np.float32(middle) + spread).mean()) * 0.86
        low, high = (low, middle) if given > wanted else (middle, high)
    return np.float32(low)


def lump_path(geometry: Compression, anatomy: Anatomy, whole: FloatArray) -> FloatArray:
    """Path through lymph nodes, cysts and fibroadenomas that are no index lesion, mm."""
    lumps = sum((anatomy.fractions[name] for name in _LUMPS if name in anatomy.fractions), start=np.float32(0.0))
    mean = _sample(geometry, anatomy, np.asarray(lumps), _LUMP_LAYERS).mean(axis=0)
    return np.asarray(_refine(geometry, mean).clip(0.0, 1.0) * whole, dtype=np.float32)


def muscle_path(rng: np.random.Generator, geometry: Compression, texture: Texture, whole: FloatArray) -> FloatArray:
    """Path through the pectoral muscle, mm: a triangle at the top in MLO, at times a rim at the chest wall in CC."""
    rows, columns = geometry.shape
    down = np.arange(rows) / rows
    if geometry.view == "MLO":
        end, power = rng.uniform(0.50, 0.70), rng.uniform(0.8, 1.1)
        edge = rng.uniform(0.75, 0.95) * min(geometry.tail[0], 46.0) * np.clip(1.0 - down / end, 0.0, None) ** power
    else:
        edge = rng.uniform(-8.0, 6.0) * np.clip(1.0 - ((down - geometry.level / rows) / 0.22) ** 2, 0.0, None)
    edge = edge + 2.8 * gaussian_filter1d(rng.standard_normal(rows), 9.0) * np.clip(edge / 5.0, 0.0, 1.0)
    within = edge[:, None] - np.arange(columns)[None, :] * geometry.pixel
    share = np.clip(within / 14.0, 0.0, 1.0) ** 0.5 * np.clip(edge, 0.0, 3.0)[:, None] / 3.0
    # Bundles of fibres run along the muscle's edge.
    along = np.broadcast_to(np.arange(rows)[:, None] / 3.0, within.shape)
    fibre = _take(texture.streaks[0], along, 5.0 * within + 300.0) + _take(texture.streaks[1], along, 3.0 * within)
    return np.asarray(share * np.clip(0.46 + 0.03 * fibre, 0.0, 1.0) * whole, dtype=np.float32)


def _take(tile: FloatArray, row: Points, column: Points) -> FloatArray:
    """Values of a periodic tile at the nearest of its points."""
    rows, columns = tile.shape
    index = (np.asarray(row).astype(np.int32) % rows) * columns + np.asarray(column).astype(np.int32) % columns
    return np.asarray(tile.ravel().take(index), dtype=np.float32)


def _sample(geometry: Compression, anatomy: Anatomy, field: FloatArray, layers: int) -> FloatArray:
    """Values of an anatomical field in layers parallel to the plates, on a coarse lattice: `(layer, row, column)`."""
    step = _LATTICE_MM / geometry.pixel
    count = [int(np.ceil(size / step)) + 1 for size in geometry.shape]
    pixels = np.stack(np.meshgrid(*(step * np.arange(n) for n in count), indexing="ij"), axis=-1)
    heights = [(2 * layer + 1) / layers - 1.0 for layer in range(layers)]
    points = np.stack([geometry.body_points(pixels, height) for height in heights])
    index = (points[..., ::-1] - np.array(anatomy.grid.origin)[::-1]) / np.array(anatomy.grid.spacing)
    return map_coordinates(field, np.moveaxis(index, -1, 0), order=1, mode="nearest", output=np.float32)


def _refine(geometry: Compression, field: FloatArray) -> FloatArray:
    """Interpolate from the lattice to all pixels, linearly."""
    step = _LATTICE_MM / geometry.pixel
    rows, columns = geometry.shape
    return interpolate(field, np.arange(rows) / step, np.arange(columns) / step)


def interpolate(field: FloatArray, rows: Points, columns: Points) -> FloatArray:
    """Values of a field where each of `rows` crosses each of `columns`, linear between its points, zero outside.

    Axis by axis, as the places form a lattice: several times faster than an interpolation at each pixel.
    """
    for positions in (rows, columns):
        low = np.clip(np.floor(positions).astype(np.int64), 0, len(field) - 2)
        part = (positions - low).astype(np.float32)[:, None]
        outside = (part < 0.0) | (part > 1.0)
        field = np.where(outside, np.float32(0.0), field[low] + part * (field[low + 1] - field[low])).T
    return field
