"""Resample a breast to the grid of the plan, and a prediction back to the grid of the study.

Left breasts are mirrored in x, so that lateral and medial are on the same sides of every array; `to_native` mirrors
back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError
from shared.modalities.mri.intensity import scale_channels, to_channels
from shared.modalities.mri.plan import MriPlan, Triple, Voxels
from shared.modalities.mri.region import BreastRegion
from shared.preprocessing.resample import Axis, resample, resample_mask
from shared.types import BoolArray, FloatArray, Grid

Axes = tuple[Axis, Axis, Axis]


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of a prepared case in its study.

    Attributes
    ----------
    native
        The study's grid.
    box_start, box_size
        First voxel and size of the breast box on the native grid, `(z, y, x)`.
    start_mm
        Centre of the first voxel of the prepared array before mirroring, mm along `(z, y, x)` from the centre of the
        first voxel of the native grid.
    spacing_mm, shape
        Spacing and shape of the prepared array, `(z, y, x)`.
    mirrored
        Whether x was mirrored.

    """

    native: Grid
    box_start: Voxels
    box_size: Voxels
    start_mm: Triple
    spacing_mm: Triple
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Placement:
        """Undo `to_dict` after JSON made lists of tuples.

        Raises
        ------
        TypeError, KeyError
            The data are not from `to_dict`.

        """
        values: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in data.items()}
        values["native"] = Grid(**{name: tuple(item) for name, item in data["native"].items()})
        return cls(**values)


@dataclass(frozen=True, slots=True)
class PreparedArrays:
    """Arrays of a case for a network.

    `image` is float16 `(channel, z, y, x)`: pre, post1 - pre, post2 - post1, post3 - post1, ..., scaled by the plan,
    and 0 outside the breast box. `mask` is the lesion, bool `(z, y, x)`, or None.
    """

    image: npt.NDArray[np.float16]
    mask: BoolArray | None
    meta: Placement


def prepare_region(region: BreastRegion, plan: MriPlan) -> PreparedArrays:
    """Resample an extracted breast to the plan's grid; the middle of the array is the middle of the breast box.

    Raises
    ------
    StudyError
        `no_breast_found`: the lesion lies outside the whole-breast array.

    """
    place = _place(region, plan)
    channels = resample(to_channels(region.phases), place.box_axes, place.plan_axes)
    image = scale_channels(channels, plan.low, plan.high, plan.scale)
    truth = None
    if region.lesion is not None:
        truth = resample_mask(region.lesion[region.window], place.box_axes, place.plan_axes)
        if not truth.any():
            raise StudyError("no_breast_found", "the lesion lies outside the plan's breast box")
    if place.mirrored:
        image = image[..., ::-1]
        truth = truth[..., ::-1] if truth is not None else None
    return PreparedArrays(
        np.ascontiguousarray(image, np.float16), None if truth is None else np.ascontiguousarray(truth), place
    )


def to_native(probability: FloatArray, meta: Placement) -> FloatArray:
    """Resample a prediction `(z, y, x)` from the plan's grid to the study's own, linearly; 0 outside the breast box."""
    upright = probability[..., ::-1] if meta.mirrored else probability
    native: FloatArray = np.zeros(meta.native.shape, np.float32)
    native[meta.window] = resample(upright[None], meta.plan_axes, meta.box_axes)[0]
    return native


def _place(region: BreastRegion, plan: MriPlan) -> Placement:
    shape = plan.crop_voxels
    if plan.mode == "patch":
        whole = (int(np.ceil(size / step - 1e-6)) for size, step in zip(region.size_mm, plan.spacing_mm, strict=True))
        z, y, x = (max(least, side) for least, side in zip(plan.least_voxels, whole, strict=True))
        shape = (z, y, x)
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
