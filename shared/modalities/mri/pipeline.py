"""Resample a breast to the grid of the plan, and a prediction back to the grid of the study.

Left breasts are mirrored in x, so that lateral and medial are on the same sides of every array; `to_native` mirrors
back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.modalities.mri.intensity import scale_channels, to_channels
from shared.modalities.mri.plan import MOST_VOXELS, MriPlan, Triple, Voxels
from shared.modalities.mri.region import BreastRegion
from shared.preprocessing.resample import Axis, resample, resample_mask
from shared.types import BoolArray, FloatArray, Grid

Axes = tuple[Axis, Axis, Axis]


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of a prepared case in its study, whose grid is `native`; all triples are `(z, y, x)`.

    `start_mm` is the centre of the first voxel of the prepared array before mirroring in x, from the centre of the
    first voxel of the native grid.
    """

    native: Grid
    box_start: Voxels  # first voxel and size of the breast box on the native grid
    box_size: Voxels
    start_mm: Triple
    spacing_mm: Triple  # of the prepared array
    shape: Voxels
    mirrored: bool

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The breast box as slices `(z, y, x)` of the native grid."""
        z, y, x = (slice(first, first + size) for first, size in zip(self.box_start, self.box_size, strict=True))
        return z, y, x

    @property
    def plan_axes(self) -> Axes:
        """Voxel centres of the prepared array, mm from the first voxel of the native grid."""
        z, y, x = (Axis(*axis) for axis in zip(self.start_mm, self.spacing_mm, self.shape, strict=True))
        return z, y, x

    @property
    def box_axes(self) -> Axes:
        """Voxel centres of the breast box on the native grid, mm from its first voxel."""
        z, y, x = (
            Axis(first * step, step, size)
            for first, step, size in zip(self.box_start, self.native.spacing, self.box_size, strict=True)
        )
        return z, y, x


@dataclass(frozen=True, slots=True)
class PreparedArrays:
    """Arrays of a case for a network.

    `image` is float16 `(channel, z, y, x)`: pre, post1 - pre, post2 - post1, post3 - post1, ..., scaled by the plan,
    and 0 outside the breast box. `mask` is the lesion, bool `(z, y, x)`, or None; it is empty where the array misses
    the lesion.
    """

    image: npt.NDArray[np.float16]
    mask: BoolArray | None
    place: Placement


def prepare_region(region: BreastRegion, plan: MriPlan) -> PreparedArrays:
    """Resample an extracted breast to the plan's grid; the middle of the array is the middle of the breast box.

    Raises `StudyError` (`preprocessing_failed`) if the breast has more than `MOST_VOXELS` at the plan's spacing.
    """
    place = _place(region, plan)
    channels = resample(to_channels(region.phases), place.box_axes, place.plan_axes)
    scaled = scale_channels(channels, plan.low, plan.high, plan.scale)
    mirror = slice(None, None, -1 if place.mirrored else 1)
    image = np.ascontiguousarray(scaled[..., mirror], np.float16)
    if region.lesion is None:
        return PreparedArrays(image, None, place)
    truth = resample_mask(region.lesion[region.window], place.box_axes, place.plan_axes)
    return PreparedArrays(image, np.ascontiguousarray(truth[..., mirror]), place)


def to_native(probability: FloatArray, place: Placement) -> FloatArray:
    """Resample a prediction `(z, y, x)` from the plan's grid to the study's own, linearly; 0 outside the breast box."""
    upright = probability[..., ::-1] if place.mirrored else probability
    native: FloatArray = np.zeros(place.native.shape, np.float32)
    native[place.window] = resample(upright[None], place.plan_axes, place.box_axes)[0]
    return native


def _place(region: BreastRegion, plan: MriPlan) -> Placement:
    shape = plan.crop_voxels
    if plan.mode == "patch":
        whole = (int(np.ceil(size / step - 1e-6)) for size, step in zip(region.size_mm, plan.spacing_mm, strict=True))
        z, y, x = (max(least, side) for least, side in zip(plan.least_voxels, whole, strict=True))
        shape = (z, y, x)
        if z * y * x > MOST_VOXELS:
            raise StudyError("preprocessing_failed", f"{shape} voxels at the plan's spacing, more than {MOST_VOXELS}")
    start = []
    for first, size, old, new, count in zip(
        region.start, region.breast.shape, region.grid.spacing, plan.spacing_mm, shape, strict=True
    ):
        middle = (first + 0.5 * (size - 1)) * old
        start.append(middle - 0.5 * (count - 1) * new)
    return Placement(
        native=region.grid,
        box_start=region.start,
        box_size=(region.breast.shape[0], region.breast.shape[1], region.breast.shape[2]),
        start_mm=(start[0], start[1], start[2]),
        spacing_mm=plan.spacing_mm,
        shape=shape,
        mirrored=region.side == "left",
    )
