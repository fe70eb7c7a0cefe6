"""One breast, cut out of a study: its signal at fixed times, without the bias field, over the exam's reference level.

It does not depend on the plan, so a site reads each study only once, for the fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.modalities.mri.bias_field import bias_field
from shared.modalities.mri.breast_crop import find_breast
from shared.modalities.mri.dce_study import DceStudy
from shared.modalities.mri.intensity import reference_level
from shared.modalities.mri.kinetics import at_times, fixed_times, time_weights
from shared.modalities.mri.plan import Extraction, Voxels
from shared.types import BoolArray, Grid, Side

LARGEST = 60_000.0  # float16 ends at 65504; a voxel this much brighter than gland is an artefact


@dataclass(frozen=True, slots=True)
class BreastRegion:
    """One breast of a study.

    `phases` are float16 `(1 + post, z, y, x)` in the breast box at the study's spacing: the signal before contrast and
    at `kinetics.fixed_times`, relative to the exam's reference level. They are in half precision also in memory, so
    that the cache returns exactly what was computed.
    """

    phases: npt.NDArray[np.float16]
    breast: BoolArray  # approximate mask, (z, y, x) in the box
    lesion: BoolArray | None  # the breast's reference mask, (z, y, x) on the grid of the whole study
    grid: Grid  # of the study
    start: Voxels  # first voxel of the box in that grid, (z, y, x)
    side: Side

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The box as slices `(z, y, x)` of the study's grid."""
        z, y, x = (slice(first, first + size) for first, size in zip(self.start, self.breast.shape, strict=True))
        return z, y, x

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Sides of the box, `(z, y, x)`, mm."""
        z, y, x = (size * step for size, step in zip(self.breast.shape, self.grid.spacing, strict=True))
        return z, y, x

    @property
    def misses_lesion(self) -> bool:
        """Whether no voxel of the reference lies in the box: a failure of the crop, not of the exam."""
        return self.lesion is not None and not self.lesion[self.window].any()

    def need_lesion(self) -> None:
        """Raise `StudyError` (`no_breast_found`) where the box misses the reference."""
        if self.misses_lesion:
            raise StudyError("no_breast_found", f"no voxel of the lesion lies in the {self.side} breast that was found")


def extract_region(study: DceStudy, mask: BoolArray | None, side: Side, extraction: Extraction) -> BreastRegion:
    """Cut one breast out of a study, remove its bias field and divide by its reference level.

    `mask` is the lesion on the study's grid, bool `(z, y, x)`; what of it lies in the other breast is left out. A box
    that misses it is returned all the same: see `BreastRegion.misses_lesion`.

    Raises
    ------
    StudyError
        `no_breast_found`, also if the lesion is on the other side of the sternum; `mask_mismatch`; `missing_phase`: the
        phases do not tell the signal at the fixed times; `preprocessing_failed`: values that are not finite, no signal,
        no uptake.

    """
    if mask is not None and mask.shape != study.grid.shape:
        raise StudyError("mask_mismatch", f"mask of shape {mask.shape} for images of shape {study.grid.shape}")
    if not np.isfinite(study.phases).all():
        raise StudyError("preprocessing_failed", "the images hold values that are not numbers")
    box = find_breast(study, side)
    if mask is not None:  # one file may stand for both breasts
        mask, whole = np.zeros_like(mask), mask
        mask[..., box.half] = whole[..., box.half]
    if mask is not None and not mask.any():
        raise StudyError(
            "no_breast_found",
            f"no voxel of the lesion lies on the {side}: is the side of the row right?",
        )
    weights = time_weights(study.times_s[1:], fixed_times(extraction.post_phases))
    phases = at_times(study.phases[(slice(None), *box.window)], weights)
    if extraction.n4:
        phases = phases / bias_field(
            phases[0],
            box.breast,
            study.grid.spacing,
            shrink=extraction.n4_shrink,
            iterations=extraction.n4_iterations,
        )
    phases = phases / np.float32(reference_level(phases[0], phases[1] - phases[0], box.breast))
    z, y, x = (part.start for part in box.window)
    return BreastRegion(
        np.clip(phases, -LARGEST, LARGEST).astype(np.float16), box.breast, mask, study.grid, (z, y, x), side
    )
