"""The preprocessing plan of a federation's MRI: made on the server from merged fingerprints, followed at every site."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.modalities.modality import Plan
from shared.modalities.mri.settings import MriSettings

VERSION = 2
"""Of this package's code: raised when it changes what a case looks like, so that older cached cases are made anew."""

Triple = tuple[float, float, float]
Voxels = tuple[int, int, int]


class Extraction(Plan):
    """What happens to a study before the plan's grid matters: which phases are taken, how shading is removed."""

    version: int = VERSION
    post_phases: int = Field(ge=1)
    n4: bool
    n4_shrink: int = Field(ge=1)
    n4_iterations: tuple[int, ...] = Field(min_length=1)

    @classmethod
    def of(cls, config: MriSettings) -> Extraction:
        """The part of a configuration that decides it; all sites have it before there is a plan."""
        return cls(
            post_phases=config.post_phases,
            n4=config.n4,
            n4_shrink=config.n4_shrink,
            n4_iterations=config.n4_iterations,
        )


class MriPlan(Plan):
    """How every site turns a study into the array a network reads.

    Attributes
    ----------
    mode
        `whole_breast`: each case is one array of `crop_voxels`. `patch`: each case keeps its breast's own size.
    spacing_mm
        Voxel spacing `(z, y, x)` of a prepared case, mm.
    crop_voxels
        Sides `(z, y, x)` of the whole-breast array.
    least_voxels
        Patch mode: smallest sides of a prepared case, those of a patch.
    low, high
        Each channel's clipping range, over the exam's reference level (`intensity.reference_level`).
    scale
        What each channel is divided by after clipping.
    extraction
        Phases and bias field.

    """

    mode: Literal["whole_breast", "patch"]
    spacing_mm: Triple
    crop_voxels: Voxels
    least_voxels: Voxels
    low: tuple[float, ...]
    high: tuple[float, ...]
    scale: tuple[float, ...]
    extraction: Extraction
