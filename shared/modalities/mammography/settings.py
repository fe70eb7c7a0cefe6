"""Mammography's section of the configuration, `[mammography]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.config.sections import Section, Workers

Pixels = Annotated[int, Field(ge=32, le=4096)]


class MammographySettings(Section):
    """How a breast's views are prepared for the networks."""

    margin: float = Field(
        default=100.0, ge=0.0, le=2000.0, description="By which the box around a lesion is widened at each side."
    )
    margin_unit: Literal["pixels", "mm"] = Field(
        default="pixels", description="pixels: as published; mm: the same at every hospital, for images that tell it."
    )
    roi_pixels: Pixels = Field(default=224, description="Edge of the square around the lesion as it is read.")
    whole_pixels: tuple[Pixels, Pixels] = Field(
        default=(512, 384), description="(y, x) of the whole breast as it is read."
    )
    workers: Workers = Field(default=1, description="Breasts prepared at once at a site.")

    @property
    def channels(self) -> int:
        """Channels of a prepared image."""
        return 1

    def describe(self) -> list[tuple[str, str]]:
        """Rows of the model card on how an image is prepared."""
        margin = f"{self.margin:g} {self.margin_unit}"
        rows, columns = self.whole_pixels
        return [
            ("image", "CC and MLO, the chest wall at the left; air and labels 0, levels from all training centres"),
            ("region", f"box around the lesion's outline and {margin}, square, {self.roi_pixels} pixels"),
            ("whole breast", f"box around the breast, {rows} x {columns} pixels"),
        ]
