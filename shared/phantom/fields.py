"""Random fields in world coordinates: smooth splines and power-law noise, for anatomy, coil sensitivity and motion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from shared.types import FloatArray, Grid


def axes_mm(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """World coordinates of the voxel centres along `z`, `y` and `x`, mm, shaped to broadcast to `(z, y, x)`."""
    x0, y0, z0 = grid.origin
    z, y, x = (
        (start + step * np.arange(count)).astype(np.float32)
        for start, step, count in zip((z0, y0, x0), grid.spacing, grid.shape, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _spline_weights(positions: npt.NDArray[np.float64], knots: int, start: float, step: float) -> FloatArray:
    """Cubic B-spline weights, `(position, knot)`."""
    t = np.abs((positions[:, None] - start) / step - np.arange(knots)[None, :])
    near = 2.0 / 3.0 - t**2 + t**3 / 2.0
    far = np.clip(2.0 - t, 0.0, None) ** 3 / 6.0
    return np.where(t < 1.0, near, far).astype(np.float32)


def spline_field(rng: np.random.Generator, grid: Grid, scale_mm: float) -> FloatArray:
    """Smooth Gaussian field of about unit variance, `(z, y, x)`, a spline with knots every `scale_mm`.

    It is separable: three small matrix products instead of one interpolation per voxel.
    """
    weights = []
    for coordinates in axes_mm(grid):
        line = coordinates.ravel().astype(np.float64)
        knots = int(np.ceil((line[-1] - line[0]) / scale_mm)) + 5
        weights.append(_spline_weights(line, knots, float(line[0]) - 2.0 * scale_mm, scale_mm))
    values = rng.standard_normal([matrix.shape[1] for matrix in weights], dtype=np.float32)
    field = np.tensordot(weights[0], values, axes=(1, 0))
    field = np.matmul(weights[1], field)
    field = np.matmul(field, weights[2].T)
    # A cubic B-spline's squared weights sum to about 0.479 along each axis.
    return np.asarray(field / np.float32(0.479**1.5), dtype=np.float32)


def power_law_fields(
    rng: np.random.Generator, grid: Grid, exponent: float, cutoff_mm: float
) -> tuple[FloatArray, FloatArray]:
    """Two independent fields of unit variance, `(z, y, x)`, whose power spectrum falls as frequency to the `-exponent`.

    The spectrum is flat at wavelengths above `cutoff_mm`; otherwise the largest scale would dominate the field. Breast
    parenchyma has an exponent of about 3 (Burgess et al., Med Phys 2001;28:419).
    """
    frequencies = np.meshgrid(
        *(
            scipy.fft.fftfreq(count, step).astype(np.float32)
            for count, step in zip(grid.shape, grid.spacing, strict=True)
        ),
        indexing="ij",
        sparse=True,
    )
    squared = sum((f**2 for f in frequencies), start=np.float32(1.0 / cutoff_mm**2))
    spectrum = rng.standard_normal((*grid.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = scipy.fft.ifftn(spectrum * np.asarray(squared, dtype=np.float32) ** np.float32(-exponent / 4.0))
    first, second = np.ascontiguousarray(field.real), np.ascontiguousarray(field.imag)
    return first / first.std(), second / second.std()


def edge_share(depth: npt.NDArray[np.floating], width: float | npt.NDArray[np.floating]) -> FloatArray:
    """Share of a voxel inside a flat edge, from the signed depth of its centre and its width across the edge, mm."""
    return np.clip(0.5 + depth / width, 0.0, 1.0).astype(np.float32)
