"""Distances between the surfaces of two masks, in mm, on the voxel grid.

A surface voxel is a voxel of the mask with a face neighbour outside it; everything outside the volume is outside the
mask. Distances are those between centres of surface voxels. DeepMind's `surface-distance` weights surface elements
smaller than a voxel instead and gives slightly different values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.types import BoolArray


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distance of each surface voxel to the surface of the other mask, mm: one 1-D array per direction, never empty."""

    from_prediction: npt.NDArray[np.float64]
    from_reference: npt.NDArray[np.float64]


def surface_distances(
    prediction: BoolArray, reference: BoolArray, spacing: tuple[float, float, float]
) -> SurfaceDistances:
    """Compute the surface distances in both directions.

    Parameters
    ----------
    prediction, reference
        Boolean `(z, y, x)` on one grid.
    spacing
        `(z, y, x)`, mm.

    Raises
    ------
    ValueError
        The shapes differ, or a mask is empty and has no surface; `overlap.case_metrics` says what is reported then.

    """
    if prediction.shape != reference.shape:
        raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} are not on one grid")
    if not prediction.any() or not reference.any():
        raise ValueError("an empty mask has no surface: see the empty-mask policy of case_metrics")
    # Surfaces lie inside the box of the union, so the crop is exact and much faster.
    box = ndimage.find_objects((prediction | reference).astype(np.uint8))[0]
    mine, theirs = _surface(prediction[box]), _surface(reference[box])
    to_theirs = ndimage.distance_transform_edt(~theirs, sampling=spacing)
    to_mine = ndimage.distance_transform_edt(~mine, sampling=spacing)
    return SurfaceDistances(from_prediction=to_theirs[mine], from_reference=to_mine[theirs])


def _surface(mask: BoolArray) -> BoolArray:
    inner = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1), border_value=0)
    surface: BoolArray = mask & ~inner
    return surface


def hd95(distances: SurfaceDistances) -> float:
    """Robust Hausdorff distance, mm: the larger of the two directed 95th percentiles (linear interpolation).

    Some tools use the same name for the percentile of both sets together, which is smaller (Maier-Hein et al., Nat
    Methods 2024;21:195).
    """
    return float(max(np.percentile(distances.from_prediction, 95), np.percentile(distances.from_reference, 95)))


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance, mm: the mean over the voxels of both surfaces (Heimann 2009)."""
    total = distances.from_prediction.sum() + distances.from_reference.sum()
    return float(total / (distances.from_prediction.size + distances.from_reference.size))


def nsd(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Normalised surface Dice: share of surface voxels within `tolerance_mm` of the other surface (Nikolov 2021)."""
    within = np.count_nonzero(distances.from_prediction <= tolerance_mm)
    within += np.count_nonzero(distances.from_reference <= tolerance_mm)
    return float(within / (distances.from_prediction.size + distances.from_reference.size))
