"""Preprocessing plan for the MRI of a federation: made on the server from merged fingerprints, used at every site."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.modalities.modality import Plan
from shared.modalities.mri.settings import MriSettings

VERSION = 2
"""Version of this package: raised when it changes what a case looks like, so that cached cases are prepared again."""

Triple = tuple[float, float, float]
Voxels = tuple[int, int, int]


class Extraction(Plan):
    """How a breast is extracted before it is resampled: which phases are used, and how the bias field is estimated."""

    version: int = VERSION
    post_phases: int = Field(ge=1)
    n4: bool
    n4_shrink: int = Field(ge=1)
    n4_iterations: tuple[int, ...] = Field(min_length=1)

    @classmethod
    def of(cls, config: MriSettings) -> Extraction:
        """Take the settings from the configuration, which all sites have before there is a plan."""
        return cls(
            post_phases=config.post_phases,
            n4=config.n4,
            n4_shrink=config.n4_shrink,
            n4_iterations=config.n4_iterations,
        )


class MriPlan(Plan):
    """How every site prepares a study for the networks.

    Attributes
    ----------
    mode
        `whole_breast`: each case is one array of shape `crop_voxels`. `patch`: each case keeps the size of its breast.
    spacing_mm
        Voxel spacing `(z, y, x)` of a prepared case, mm.
    crop_voxels
        Shape `(z, y, x)` of the whole-breast array.
    least_voxels
        In patch mode, the smallest shape of a prepared case, which is that of a patch.
    low, high
        Clipping range of each channel, relative to the exam's reference level (`intensity.reference_level`).
    scale
        Divisor of each channel after clipping.
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
