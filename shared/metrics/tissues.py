"""Metrics of the structures of one case: overlap, surfaces and volume of each, and the density of the breast."""

from __future__ import annotations

import numpy as np

from shared.metrics.overlap import Spacing, dice, surface_figures
from shared.types import STRUCTURES, BoolArray


def structure_metrics(
    prediction: BoolArray, reference: BoolArray, spacing: Spacing, *, nsd_tolerance_mm: float | None
) -> dict[str, float | None]:
    """Columns of one case by structure: `dice_*`, `hd95_mm_*`, `nsd_*`, `volume_ml_*`, `reference_volume_ml_*`.

    `density_percent` and `reference_density_percent` follow: fibroglandular volume over breast volume, `None` without a
    breast. Empty masks are treated as in `overlap.case_metrics`.

    Parameters
    ----------
    prediction, reference
        Boolean `(structure, z, y, x)` on one grid, in the order of `STRUCTURES`.
    spacing
        `(z, y, x)`, mm.
    nsd_tolerance_mm
        Tolerance of the normalised surface Dice, mm; None omits surface metrics, as that of a breast takes seconds on
        a fine grid.

    Raises
    ------
    ValueError
        The shapes differ, or there is not one mask for each structure.

    """
    if prediction.shape != reference.shape or len(prediction) != len(STRUCTURES):
        raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} are not {len(STRUCTURES)} pairs")
    voxel_ml = float(np.prod(spacing)) / 1000.0
    row: dict[str, float | None] = {}
    for structure, mine, theirs in zip(STRUCTURES, prediction, reference, strict=True):
        if nsd_tolerance_mm is not None:
            surface_dice, robust, _, _ = surface_figures(mine, theirs, spacing, nsd_tolerance_mm)
            row |= {f"hd95_mm_{structure}": robust, f"nsd_{structure}": surface_dice}
        row |= {
            f"dice_{structure}": dice(mine, theirs),
            f"volume_ml_{structure}": int(np.count_nonzero(mine)) * voxel_ml,
            f"reference_volume_ml_{structure}": int(np.count_nonzero(theirs)) * voxel_ml,
        }
    for prefix, masks in (("", prediction), ("reference_", reference)):
        breast, fibroglandular = (int(np.count_nonzero(mask)) for mask in masks)
        row[f"{prefix}density_percent"] = 100.0 * fibroglandular / breast if breast else None
    return row
