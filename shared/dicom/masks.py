"""Masks on a study's grid: DICOM SEG, NIfTI, NRRD.

A SEG may cover a subset of the frames, in any order and any orientation: its frames are placed by position
(DICOM PS3.3 C.7.6.16.2.3). Nothing is resampled: a mask that does not lie on the study's voxels is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from shared.dicom.geometry import direction_of, to_lps
from shared.dicom.header import quiet_reader
from shared.dicom.volumes import read_volume
from shared.errors import StudyError
from shared.types import BoolArray, Grid

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_MAX_VOXELS = 2**30
_DICM_END = 132
_OCCUPIED = 0.5  # share of MaximumFractionalValue from which a voxel of a FRACTIONAL SEG is taken
_INDEX_TOLERANCE = 0.1  # voxels a frame may lie off the grid
_DIRECTION_TOLERANCE = 1e-3
_TAGS = [
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SegmentationType", "MaximumFractionalValue"),
    *("SegmentSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelData"),
]


@dataclass(frozen=True, slots=True)
class _Frames:
    """Frames of one segment: `values` bool `(frame, row, column)`, positions `(frame, 3)` mm, their common geometry."""

    values: BoolArray
    positions: npt.NDArray[np.float64]
    direction: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    between: float | None


def read_mask(path: Path, grid: Grid, *, segment: int | None = None) -> BoolArray:
    """Lesion (or other) mask on the voxels of `grid`, bool `(z, y, x)`.

    Parameters
    ----------
    path
        DICOM SEG (BINARY, or FRACTIONAL from half occupancy), or NIfTI or NRRD (voxels above 0.5).
    grid
        Grid of the study, as `read_study` gives it.
    segment
        Segment number of a SEG that holds several; a SEG of one segment needs none.

    Raises
    ------
    StudyError
        `unreadable_mask`; `mask_mismatch`: not on the study's voxels, or partly outside; `empty_mask`.

    """
    if is_dicom(path):
        placed = _place(_load_frames(path, segment), grid)
    else:
        values, own = _read_volume_mask(path)
        if not own.same_space(grid, tolerance_mm=_INDEX_TOLERANCE * min(grid.spacing)):
            raise StudyError("mask_mismatch", f"mask of shape {own.shape} does not lie on images of shape {grid.shape}")
        placed = values
    if not placed.any():
        raise StudyError("empty_mask", "the mask has no voxel; correct the row or take the mask out of it")
    return placed


def is_dicom(path: Path) -> bool:
    """Say whether a file carries the DICM mark; False when it cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(_DICM_END)[-4:] == b"DICM"
    except OSError:
        return False


def _read_volume_mask(path: Path) -> tuple[BoolArray, Grid]:
    try:
        values, grid = read_volume(path)
    except StudyError as error:
        raise StudyError("unreadable_mask", error.detail) from None
    return values > _OCCUPIED, grid


def read_segmentation(path: Path, *, segment: int | None = None) -> tuple[BoolArray, Grid]:
    """A DICOM SEG by itself: bool `(z, y, x)` in LPS on the smallest regular grid through its frames.

    Raises
    ------
    StudyError
        `unreadable_mask`: no SEG, damaged, several segments and none chosen, frames without a regular spacing.

    """
    frames = _load_frames(path, segment)
    normal = frames.direction[:, 2]
    along = frames.positions @ normal
    start = float(along.min())
    step = _frame_spacing(along - start, frames.between)
    layers = np.rint((along - start) / step).astype(int)
    origin = frames.positions[int(np.argmin(along))]
    expected = origin + np.outer(layers * step, normal)
    if np.abs(expected - frames.positions).max() > _INDEX_TOLERANCE * max(step, *frames.spacing):
        raise StudyError("unreadable_mask", "the frames of the SEG are not stacked along their normal")
    if (int(layers.max()) + 1) * frames.values[0].size > _MAX_VOXELS:
        raise StudyError("unreadable_mask", "the SEG claims more voxels than any breast MRI has")
    mask = np.zeros((int(layers.max()) + 1, *frames.values.shape[1:]), np.bool_)
    for layer, values in zip(layers, frames.values, strict=True):
        mask[layer] |= values
    return to_lps(mask, _grid(frames, mask.shape[0], origin, step))


def _place(frames: _Frames, grid: Grid) -> BoolArray:
    """Put each frame where its position says; the whole SEG need not be there, nor lie in the study's orientation."""
    placed = np.zeros(grid.shape, np.bool_)
    to_index = np.array(grid.direction).reshape(3, 3) / np.array(grid.spacing[::-1])
    for values, position in zip(frames.values, frames.positions, strict=True):
        mask, own = to_lps(values[None], _grid(frames, 1, position, 1.0))
        # Shape, spacing, direction and position all agree when the frame's corners fall on the voxels they should.
        seen = (own.corners() - np.array(grid.origin)) @ to_index
        start = np.rint(seen[0])
        steps = (own.corners() - np.array(own.origin)) @ np.array(own.direction).reshape(3, 3)
        wanted = start + np.rint(steps / np.array(own.spacing[::-1]))
        if np.abs(seen - wanted).max() > _INDEX_TOLERANCE:
            raise StudyError("mask_mismatch", "a frame of the SEG does not lie on the voxels of the images")
        z, y, x = (axis + int(start[2 - at]) for at, axis in enumerate(np.nonzero(mask)))
        inside = [(axis >= 0).all() and (axis < size).all() for axis, size in zip((z, y, x), grid.shape, strict=True)]
        if not all(inside):
            raise StudyError("mask_mismatch", "the SEG marks voxels outside the images")
        placed[z, y, x] = True
    return placed


def _grid(frames: _Frames, layers: int, origin: npt.NDArray[np.float64], step: float) -> Grid:
    return Grid(
        shape=(layers, frames.values.shape[1], frames.values.shape[2]),
        spacing=(step, *frames.spacing),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in frames.direction.ravel()),
    )


def _frame_spacing(along: npt.NDArray[np.float64], between: float | None) -> float:
    """Distance between frames, mm: SpacingBetweenSlices where the gaps are multiples of it, else the smallest gap."""
    gaps = np.diff(np.unique(np.round(along, 3)))
    if gaps.size == 0:
        if not between:
            raise StudyError("unreadable_mask", "a SEG of one frame without SpacingBetweenSlices has no extent")
        return between
    extent = float(np.ptp(along))
    for step in (between, float(gaps.min())):
        # The extent over a whole number of steps is finer than one gap, whose positions are rounded in the file.
        layers = round(extent / step) if step else 0
        if step and layers and abs(extent / step - layers) <= _INDEX_TOLERANCE and _multiples(gaps, extent / layers):
            return extent / layers
    raise StudyError("unreadable_mask", "the frames of the SEG do not lie on a regular stack")


def _multiples(gaps: npt.NDArray[np.float64], step: float) -> bool:
    return bool(np.abs(gaps / step - np.rint(gaps / step)).max() <= _INDEX_TOLERANCE and gaps.min() > step / 2)


def _load_frames(path: Path, segment: int | None) -> _Frames:
    try:
        with quiet_reader():
            return _read_frames(path, segment)
    except StudyError as error:
        if error.reason == "mixed_geometry":  # of the mask's own frames
            raise StudyError("unreadable_mask", error.detail) from None
        raise
    except Exception:  # noqa: BLE001 - junk raises nearly anything in the reader; its text may quote tags
        raise StudyError("unreadable_mask", "the mask's file is damaged or no DICOM SEG") from None


def _read_frames(path: Path, segment: int | None) -> _Frames:
    dataset = pydicom.dcmread(path, specific_tags=_TAGS)
    if dataset.get("SOPClassUID") != SEGMENTATION_STORAGE:
        raise StudyError("unreadable_mask", "the mask is a DICOM object other than a segmentation (SEG)")
    kind = str(dataset.SegmentationType)
    if kind not in {"BINARY", "FRACTIONAL"}:
        raise StudyError("unreadable_mask", "the SEG is neither BINARY nor FRACTIONAL")
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    if np.prod(shape, dtype=np.int64) > _MAX_VOXELS:
        raise StudyError("unreadable_mask", "the SEG claims more voxels than any breast MRI has")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    number = _choose_segment(dataset, segment)
    keep = [index for index, group in enumerate(groups) if _segment_of(group, shared) == number]
    if not keep:
        raise StudyError("empty_mask", "the SEG holds no frame of the segment")
    values = dataset.pixel_array.reshape(shape)[keep]
    full = 1.0 if kind == "BINARY" else float(dataset.MaximumFractionalValue)
    measures = _macro(groups[keep[0]], shared, "PixelMeasuresSequence")
    planes = [_macro(groups[index], shared, "PlaneOrientationSequence") for index in keep]
    orientations = np.array([plane.ImageOrientationPatient for plane in planes], dtype=np.float64)
    if np.ptp(orientations, axis=0).max() > _DIRECTION_TOLERANCE:
        raise StudyError("unreadable_mask", "the frames of the SEG are not parallel")
    places = [_macro(groups[index], shared, "PlanePositionSequence") for index in keep]
    rows, columns = (float(value) for value in measures.PixelSpacing)
    if min(rows, columns) <= 0:
        raise StudyError("unreadable_mask", "the SEG has a PixelSpacing of zero")
    return _Frames(
        values=values >= _OCCUPIED * full,
        positions=np.array([place.ImagePositionPatient for place in places], dtype=np.float64),
        direction=direction_of([float(value) for value in orientations[0]]),
        spacing=(rows, columns),
        between=float(measures.get("SpacingBetweenSlices") or 0.0) or None,
    )


def _macro(group: Any, shared: Any, name: str) -> Any:
    """A functional group of a frame, which may be its own or shared by all frames (PS3.3 C.7.6.16)."""
    return (group.get(name) or shared[name].value)[0]


def _segment_of(group: Any, shared: Any) -> int:
    return int(_macro(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _choose_segment(dataset: Any, wanted: int | None) -> int:
    numbers = sorted(int(item.SegmentNumber) for item in dataset.SegmentSequence)
    if wanted is None and len(numbers) == 1:
        return numbers[0]
    if wanted is None or wanted not in numbers:
        raise StudyError("unreadable_mask", f"the SEG holds segments {numbers}; name one as path#number in the table")
    return wanted
