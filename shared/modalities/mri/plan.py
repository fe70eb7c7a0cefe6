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
        return cls.model_validate(config.model_dump(include={"post_phases", "n4", "n4_shrink", "n4_iterations"}))


class MriPlan(Plan):
    """How every site prepares a study for the networks; spacing and shapes are `(z, y, x)`.

    In the mode `whole_breast` each case is one array of shape `crop_voxels`. In the mode `patch` each case keeps the
    size of its breast, but has at least `least_voxels`, the shape of a patch.
    """

    mode: Literal["whole_breast", "patch"]
    spacing_mm: Triple
    crop_voxels: Voxels
    least_voxels: Voxels
    low: tuple[float, ...]  # each channel is clipped to this range, relative to `intensity.reference_level`
    high: tuple[float, ...]
    scale: tuple[float, ...]  # divisor of each channel after clipping
    extraction: Extraction
