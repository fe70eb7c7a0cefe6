"""Patch around a lesion that classifiers read: image channels, and the signed distance to the lesion's surface.

Patches have isotropic voxels and are centred on the lesion's bounding box. Either the spacing is fixed, as in published
systems, or the box is a multiple of the lesion's size, as radiologists zoom. In the latter case a small lesion has as
many voxels as a large one, and its size is known from the distances in mm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.config.sections import PatchConfig
from shared.errors import StudyError
from shared.metrics.overlap import CUBE
from shared.modalities.mri.intensity import scale_channels, to_channels
from shared.modalities.mri.plan import MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.preprocessing.cache import entry_name, get_or_make, open_array
from shared.preprocessing.resample import Axis, resample, resample_mask
from shared.types import BoolArray, FloatArray

Doubles = npt.NDArray[np.float64]

VERSION = 1
"""Version of this module: raised when it changes what a patch looks like."""

FARTHEST_MM = 20.0  # bound of the distances
_SMALLEST_MM = 12.0  # least size of a lesion for the size of its box, so that a tiny lesion still has surroundings


def cut_patch(region: BreastRegion, lesion: BoolArray, plan: MriPlan, config: PatchConfig) -> FloatArray:
    """Cut the patch of a lesion out of an extracted breast, in a box of the configured size.

    The mask `lesion` on the study's grid, bool `(z, y, x)`, is the reference or the prediction of a network; channels
    have the plan's ranges and scales, as for the segmentation.

    Returns
    -------
    float32 `(channel + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface in mm, positive
    inside, within +-20. Left breasts are mirrored in x.

    Raises
    ------
    StudyError
        `no_mask`: no voxel of the lesion is in the box of the breast.

    """
    inside = lesion[region.window]
    voxels = np.argwhere(inside)
    if not len(voxels):
        raise StudyError("no_mask", "no voxel of the outline lies in the breast")
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    spacing = np.array(region.grid.spacing)
    step = box_spacing(float(((high - low + 1) * spacing).max()), config)
    source = _axes(np.zeros(3), spacing, inside.shape)
    corner = 0.5 * (low + high) * spacing - 0.5 * (np.array(config.voxels) - 1) * step
    target = _axes(corner, np.full(3, step), config.voxels)
    channels = resample(to_channels(region.phases), source, target)
    image = scale_channels(channels, plan.low, plan.high, plan.scale)
    distance = signed_distance(resample_mask(inside, source, target), step)
    patch = np.concatenate([image, distance[None]])
    return np.ascontiguousarray(patch[..., ::-1] if region.side == "left" else patch, np.float32)


def largest_piece(outline: BoolArray) -> BoolArray:
    """The largest connected piece of an outline `(z, y, x)`, of several the first: what a patch shows of a prediction.

    A speck elsewhere in the breast would otherwise stretch the box over both, and the lesion be a few voxels in it.
    """
    pieces, number = ndimage.label(outline, CUBE)
    if number < 2:  # noqa: PLR2004 - nothing to choose from
        return outline
    piece: BoolArray = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return piece


def box_spacing(longest_mm: float, config: PatchConfig) -> float:
    """Voxel edge of a patch, mm, for a lesion with a bounding box whose longest side is `longest_mm`."""
    if config.spacing_mm is not None:
        return config.spacing_mm
    return config.over_lesion * max(longest_mm, _SMALLEST_MM) / min(config.voxels)


def signed_distance(mask: BoolArray, spacing_mm: float) -> FloatArray:
    """Distance of each voxel `(z, y, x)` to the mask's surface, mm, positive inside, within +-20.

    The surface lies half-way between the last voxel inside and the first voxel outside. Without a surface in the patch
    (a lesion larger than it, or two distant pieces with the patch between them) all voxels have the largest distance.
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, FARTHEST_MM if mask.all() else -FARTHEST_MM, np.float32)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    depth = (depth - 0.5 * np.sign(depth)) * spacing_mm
    return np.clip(depth, -FARTHEST_MM, FARTHEST_MM).astype(np.float32)


def keep_patch(root: Path, name: str, region: BreastRegion, plan: MriPlan, config: PatchConfig) -> Path:
    """Cut the patch of a region's reference lesion, keep it in the cache at `root` and return the folder of the entry.

    `name` is that of the region's entry, which stands for the content of the study. Raises as `cut_patch`, and
    `StudyError` (`no_mask`) also if the case has no reference.
    """
    lesion = region.lesion
    if lesion is None:
        raise StudyError("no_mask", "the case has no reference outline")
    folder = root / "patches" / entry_name(name, plan.hash(), config.model_dump_json(), str(VERSION))
    get_or_make(root, folder, lambda: ({"patch": cut_patch(region, lesion, plan, config)}, {}))
    return folder


def open_patch(folder: Path) -> FloatArray:
    """Open a patch from the cache, float32 `(channel + 1, z, y, x)`."""
    return np.asarray(open_array(folder, "patch"), np.float32)


def _axes(start: Doubles, step: Doubles, count: tuple[int, ...]) -> list[Axis]:
    return [Axis(float(first), float(size), number) for first, size, number in zip(start, step, count, strict=True)]
