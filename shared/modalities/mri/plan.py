"""Preprocessing plan for the MRI of a federation: made on the server from merged fingerprints, used at every site."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from shared.modalities.modality import Plan
from shared.modalities.mri.settings import MriSettings

VERSION = 3
"""Version of this package: raised when it changes what a case looks like, so that cached cases are prepared again."""

COARSEST_MM = 20.0
MOST_VOXELS = 100_000_000
"""Of a case on a plan's grid: 1.6 GB in four channels of float32."""

Spacing = Annotated[float, Field(ge=0.05, le=COARSEST_MM)]
Side = Annotated[int, Field(ge=1, le=4096)]
Level = Annotated[float, Field(ge=-1e3, le=1e3)]
MOST_CHANNELS = 9
Triple = tuple[float, float, float]
Voxels = tuple[int, int, int]


class Extraction(Plan):
    """How a breast is extracted before it is resampled: at how many times, and how the bias field is estimated."""

    version: int = Field(default=VERSION, ge=1, le=10**6)
    post_phases: int = Field(ge=1, le=MOST_CHANNELS - 1)
    n4: bool
    n4_shrink: int = Field(ge=1, le=16)
    n4_iterations: tuple[Annotated[int, Field(ge=0, le=1000)], ...] = Field(min_length=1, max_length=10)

    @classmethod
    def of(cls, config: MriSettings) -> Extraction:
        """Take the settings from the configuration, which all sites have before there is a plan."""
        return cls.model_validate(config.model_dump(include={"post_phases", "n4", "n4_shrink", "n4_iterations"}))


class MriPlan(Plan):
    """How every site prepares a study for the networks; spacing and shapes are `(z, y, x)`.

    In the mode `whole_breast` each case is one array of shape `crop_voxels`. In the mode `patch` each case keeps the
    size of its breast, but has at least `least_voxels`, the shape of a patch. Each number is bounded, on the server
    where the plan is made and at a site where it is received.
    """

    mode: Literal["whole_breast", "patch"]
    spacing_mm: tuple[Spacing, Spacing, Spacing]
    crop_voxels: tuple[Side, Side, Side]
    least_voxels: tuple[Side, Side, Side]
    # Each channel is clipped to this range, relative to `intensity.reference_level`.
    low: tuple[Level, ...] = Field(max_length=MOST_CHANNELS)
    high: tuple[Level, ...] = Field(max_length=MOST_CHANNELS)
    # Divisor of each channel after clipping.
    scale: tuple[Annotated[float, Field(ge=1e-4, le=1e3)], ...] = Field(max_length=MOST_CHANNELS)
    extraction: Extraction

    @field_validator("crop_voxels", "least_voxels")
    @classmethod
    def _at_most(cls, shape: Voxels) -> Voxels:
        if math.prod(shape) > MOST_VOXELS:
            raise ValueError(f"more than {MOST_VOXELS} voxels")
        return shape
