"""MRI's section of the configuration, `[preprocessing]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.config.sections import Section, Voxels, Workers

Millimetres = Annotated[float, Field(ge=0.1, le=20.0)]


class MriSettings(Section):
    """How a study is prepared for the networks."""

    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = Field(
        default=None,
        description="Spacing (z, y, x), mm; without it the median of the merged fingerprint.",
    )
    crop_voxels: tuple[Voxels, Voxels, Voxels] | None = Field(
        default=None,
        description="Shape (z, y, x) of the box in whole-breast mode; without it from the merged fingerprint.",
    )
    max_voxels: int = Field(
        default=300_000,
        ge=4096,
        le=100_000_000,
        description="Upper bound of the whole-breast box; spacing is widened to fit.",
    )
    post_phases: int = Field(
        default=3,
        ge=1,
        le=8,
        description="Times after injection at which the signal is read, evenly from 120 to 225 s, in every protocol.",
    )
    n4: bool = Field(default=True, description="N4 bias field correction.")
    n4_shrink: int = Field(default=4, ge=1, le=16, description="Shrink factor for the bias field's estimate.")
    n4_iterations: tuple[Annotated[int, Field(ge=0, le=1000)], ...] = Field(
        default=(20, 20, 20, 20), max_length=10, description="Iterations per fitting level."
    )
    workers: Workers = Field(default=1, description="Studies preprocessed at once at a site.")

    @property
    def channels(self) -> int:
        """Channels of a prepared image: the pre-contrast phase, and a change for each time after injection."""
        return 1 + self.post_phases

    def describe(self) -> list[tuple[str, str]]:
        """Rows of the model card on how an image is prepared."""
        n4 = "N4 bias field correction" if self.n4 else "no bias field correction"
        grid = (
            "resampled; spacing from the training centres' merged fingerprint"
            if self.spacing_mm is None
            else f"resampled to {' x '.join(f'{side:g}' for side in self.spacing_mm)} mm (z, y, x)"
        )
        phases = f"pre-contrast and {self.post_phases} times after injection"
        return [("grid", grid), ("image", f"{phases}; {n4}; left breasts mirrored")]
