"""Read masks (DICOM SEG, NIfTI, NRRD) on the grid of a study.

A SEG may have a subset of the slices, in any order and orientation; its frames are placed by their positions (DICOM
PS3.3 C.7.6.16.2.3). A label map may cover a part of the volume, as a segmentation cut to its lesion does. Nothing is
resampled: a mask with other voxels than the study is refused. Which labels are meant: `shared.dicom.label_map`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from shared.dicom.budget import MOST_MASK, BoundedFile, check_frames, read_tags
from shared.dicom.geometry import direction_of, to_lps
from shared.dicom.header import quiet_reader
from shared.dicom.label_map import Choice, choose, marked
from shared.dicom.volumes import Volume
from shared.errors import StudyError
from shared.types import BoolArray, Grid

SEGMENTATION_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentations, and label maps (PS3.3 A.51 and A.96)."""
_MOST_LARGER = 8
"""Times the voxels of the images that a mask's file may have: more is no padding."""
_MOST_HEADER = 1 << 22
"""Bytes of a SEG before its pixels: some kilobytes a frame."""
_FRAME_SPARE = 1 << 12
"""Bytes that a compressed frame may take beyond twice its pixels."""
_PIXELS = 0x7FE0_0010
_DICM_END = 132
_OCCUPIED = 0.5  # share of MaximumFractionalValue at which a voxel of a FRACTIONAL SEG belongs to the mask
_INDEX_TOLERANCE = 0.1  # largest deviation of a frame from the grid, voxels
_DIRECTION_TOLERANCE = 1e-3
_TAGS = [
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SegmentationType", "MaximumFractionalValue"),
    *("SegmentSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


@dataclass(frozen=True, slots=True)
class _Frames:
    """Frames of the segments, each bool `(row, column)`, their positions `(frame, 3)` in mm, and their geometry."""

    values: Iterator[BoolArray]
    positions: npt.NDArray[np.float64]
    direction: npt.NDArray[np.float64]
    spacing: tuple[float, float]


def read_mask(path: Path, grid: Grid, *, choice: Choice = None) -> BoolArray:
    """Read a mask on the voxels of a study's `grid`, bool `(z, y, x)`.

    It is a DICOM SEG (BINARY, LABELMAP, or FRACTIONAL with a threshold of one half), NIfTI or NRRD. `choice` says which
    labels are meant where it holds several.

    Raises
    ------
    StudyError
        `unreadable_mask`, also of values that are no labels, or a label of the background; `mask_mismatch`: not on the
        voxels of the study, or partly outside; `empty_mask`.

    """
    placed = np.zeros(grid.shape, np.bool_)
    if _is_dicom(path):
        _read_seg(path, choice, grid, placed)
    else:
        try:
            volume = Volume(path, most=MOST_MASK)
            if math.prod(volume.shape) > _MOST_LARGER * math.prod(grid.shape):  # before its voxels are read
                raise StudyError("mask_mismatch", f"mask of {volume.shape} cannot lie on images of {grid.shape}")
            values, own = volume.read()
        except StudyError as error:
            kept = error.reason == "mask_mismatch"
            raise StudyError("mask_mismatch" if kept else "unreadable_mask", error.detail) from None
        if own.shape == grid.shape and not own.same_space(grid, tolerance_mm=_INDEX_TOLERANCE * max(grid.spacing)):
            raise StudyError("mask_mismatch", "the mask has the images' shape, and its header another place or spacing")
        _put(marked(values, choice), own, placed, grid)
    if not placed.any():
        raise StudyError("empty_mask", "the mask has no voxel; correct the row or take the mask out of it")
    if placed[np.ix_([0, -1], [0, -1], [0, -1])].all():
        raise StudyError("unreadable_mask", "the mask marks all corners of the images: that label is the background")
    return placed


def _is_dicom(path: Path) -> bool:
    try:
        with BoundedFile(path, _DICM_END) as stream:
            return stream.read(_DICM_END)[-4:] == b"DICM"
    except OSError:
        return False


def _put(mask: BoolArray, own: Grid, placed: BoolArray, grid: Grid) -> None:
    """Mark the voxels of a mask on its LPS grid `own` in `placed`, whose `grid` must have voxels at the same places."""
    to_index = np.array(grid.direction).reshape(3, 3) / np.array(grid.spacing[::-1])
    # Shape, spacing, direction and position agree if the corners of the mask coincide with voxels of the study.
    seen = (own.corners() - np.array(grid.origin)) @ to_index
    start = np.rint(seen[0])
    steps = (own.corners() - np.array(own.origin)) @ np.array(own.direction).reshape(3, 3)
    wanted = start + np.rint(steps / np.array(own.spacing[::-1]))
    if np.abs(seen - wanted).max() > _INDEX_TOLERANCE:
        raise StudyError(
            "mask_mismatch", f"the mask of {own.shape} does not lie on the voxels of the images of {grid.shape}"
        )
    first = start[::-1].astype(int)
    low = [max(0, int(offset)) for offset in first]
    high = [min(size, int(offset) + extent) for size, offset, extent in zip(grid.shape, first, mask.shape, strict=True)]
    there = tuple(slice(begin, max(begin, end)) for begin, end in zip(low, high, strict=True))
    part = mask[tuple(slice(at.start - offset, at.stop - offset) for at, offset in zip(there, first, strict=True))]
    if np.count_nonzero(part) != np.count_nonzero(mask):
        raise StudyError("mask_mismatch", "the mask marks voxels outside the images")
    placed[there] |= part


def _read_seg(path: Path, choice: Choice, grid: Grid, placed: BoolArray) -> None:
    """Place each frame by its position; the SEG may lack slices and have another orientation than the study."""
    try:
        with quiet_reader():
            frames = _read_frames(path, choice)
            for values, position in zip(frames.values, frames.positions, strict=True):
                stored = Grid(
                    shape=(1, *values.shape),
                    spacing=(1.0, *frames.spacing),
                    origin=(float(position[0]), float(position[1]), float(position[2])),
                    direction=tuple(float(value) for value in frames.direction.ravel()),
                )
                _put(*to_lps(values[None], stored), placed, grid)
    except StudyError as error:
        if error.reason in {"mixed_geometry", "unreadable_file"}:  # of the mask itself
            raise StudyError("unreadable_mask", error.detail) from None
        raise
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_mask", "the mask's file is damaged or no DICOM SEG") from None


def _read_frames(path: Path, choice: Choice) -> _Frames:
    dataset = read_tags(path, _TAGS, _PIXELS, _MOST_HEADER)
    if dataset.get("SOPClassUID") not in SEGMENTATION_STORAGE:
        raise StudyError("unreadable_mask", "the mask is a DICOM object other than a segmentation (SEG)")
    kind = str(dataset.SegmentationType)
    if kind not in {"BINARY", "FRACTIONAL", "LABELMAP"}:
        raise StudyError("unreadable_mask", "the SEG is neither BINARY nor FRACTIONAL nor LABELMAP")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    if len(groups) != int(dataset.NumberOfFrames):
        raise StudyError("unreadable_mask", f"the SEG describes {len(groups)} frames and claims another number")
    # A label map may describe its background.
    wanted = choose({int(item.SegmentNumber) for item in dataset.SegmentSequence} - {0}, choice)
    keep = list(range(len(groups)))
    if kind != "LABELMAP":
        identified = [_macro(group, shared, "SegmentIdentificationSequence") for group in groups]
        keep = [index for index, item in enumerate(identified) if int(item.ReferencedSegmentNumber) in wanted]
    if not keep:
        raise StudyError("empty_mask", "the SEG holds no frame of the segment")
    most = _MOST_HEADER + (2 * int(dataset.Rows) * int(dataset.Columns) + _FRAME_SPARE) * len(groups)
    dataset.add(read_tags(path, ["PixelData"], _PIXELS + 1, most)["PixelData"])
    check_frames(dataset, len(groups))
    full = float(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 1.0
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
        # One at a time: a SEG may hold many segments of which one is wanted.
        values=(
            np.isin(frame, wanted) if kind == "LABELMAP" else frame >= _OCCUPIED * full
            for frame in pydicom.pixels.iter_pixels(dataset, indices=keep)
        ),
        positions=np.array([place.ImagePositionPatient for place in places], dtype=np.float64),
        direction=direction_of([float(value) for value in orientations[0]]),
        spacing=(rows, columns),
    )


def _macro(group: Any, shared: Any, name: str) -> Any:
    """Functional group of a frame: its own, or one that all frames share (PS3.3 C.7.6.16)."""
    return (group.get(name) or shared[name].value)[0]
