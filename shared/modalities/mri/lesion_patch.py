"""The box around a lesion that classifiers read: image channels, and the signed distance to the lesion's surface.

Patches are isotropic and centred on the middle of the lesion's bounding box. Either their spacing is fixed, as in
published systems (a box of so many millimetres), or the box is a multiple of the lesion, as radiologists zoom: a small
lesion then has as many voxels as a large one, and its size is told by the distances, which stay in mm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.config.sections import PatchConfig
from shared.errors import StudyError
from shared.modalities.mri.intensity import scale_channels, to_channels
from shared.modalities.mri.plan import MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.preprocessing.cache import entry_name, get_or_make
from shared.preprocessing.resample import Axis, resample, resample_mask
from shared.preprocessing.store import open_array
from shared.types import BoolArray, FloatArray

VERSION = 1
"""Of this file's code: raised when it changes what a patch looks like."""

FARTHEST_MM = 20.0
"""Distances are clipped here: what is farther from the lesion than that is simply outside."""
_SMALLEST_MM = 12.0  # a box around a speck would otherwise show nothing but the speck


def cut_patch(region: BreastRegion, lesion: BoolArray, plan: MriPlan, config: PatchConfig) -> FloatArray:
    """Cut the patch of a lesion out of an extracted breast.

    Parameters
    ----------
    region
        The breast as the cache keeps it.
    lesion
        Outline on the study's grid, bool `(z, y, x)`: the reference, or a network's.
    plan
        Its ranges and scales make the channels those that the segmentation reads.
    config
        Size of the box.

    Returns
    -------
    float32 `(channel + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface in mm, positive
    inside, within +-20. Left breasts are mirrored in x.

    Raises
    ------
    StudyError
        `no_mask`: no voxel of the lesion lies in the breast's box.

    """
    inside = lesion[region.window]
    found = np.argwhere(inside)
    if not len(found):
        raise StudyError("no_mask", "no voxel of the outline lies in the breast")
    low, high = found.min(axis=0), found.max(axis=0)
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


def box_spacing(longest_mm: float, config: PatchConfig) -> float:
    """Edge of the patch's voxels, mm, for a lesion whose bounding box has a longest side of `longest_mm`."""
    if config.spacing_mm is not None:
        return config.spacing_mm
    return config.over_lesion * max(longest_mm, _SMALLEST_MM) / min(config.voxels)


def signed_distance(mask: BoolArray, spacing_mm: float) -> FloatArray:
    """Distance of each voxel `(z, y, x)` to the mask's surface, mm, positive inside, within +-20.

    The surface lies half-way between the last voxel inside and the first outside. Where none is in sight (a lesion
    larger than the patch; two pieces far apart, with the patch between them), all are as far as can be.
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, FARTHEST_MM if mask.all() else -FARTHEST_MM, np.float32)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    depth = (depth - 0.5 * np.sign(depth)) * spacing_mm
    clipped: FloatArray = np.clip(depth, -FARTHEST_MM, FARTHEST_MM).astype(np.float32)
    return clipped


def keep_patch(root: Path, name: str, region: BreastRegion, plan: MriPlan, config: PatchConfig) -> Path:
    """Cut and keep the patch of a region's reference lesion; return the entry's folder.

    Parameters
    ----------
    root
        The cache's folder.
    name
        Name of the region's own entry, which stands for the study's content.

    Raises
    ------
    StudyError
        As `cut_patch`; `no_mask` also where the case has no reference.

    """
    lesion = region.lesion
    if lesion is None:
        raise StudyError("no_mask", "the case has no reference outline")
    folder = root / "patches" / entry_name(name, plan.hash(), config.model_dump_json(), str(VERSION))
    get_or_make(root, folder, lambda: ({"patch": cut_patch(region, lesion, plan, config)}, {}))
    return folder


def open_patch(folder: Path) -> FloatArray:
    """A kept patch, float32 `(channel + 1, z, y, x)`."""
    patch: FloatArray = np.asarray(open_array(folder, "patch"), np.float32)
    return patch


def _axes(
    start: npt.NDArray[np.float64], step: npt.NDArray[np.float64], count: tuple[int, ...]
) -> tuple[Axis, Axis, Axis]:
    z, y, x = (
        Axis(float(first), float(size), int(number)) for first, size, number in zip(start, step, count, strict=True)
    )
    return z, y, x
