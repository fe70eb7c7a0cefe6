"""Region of interest of a mammogram: from a reader's mask to a square patch.

As Luo et al. (Front Oncol 2025;15:1638212) describe it: the box around the mask is widened by 100 pixels at each side,
made square, and resized to 224 x 224.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shared.cohort.preflight import Case
from shared.dicom.budget import SPARE, check_frames, read_tags
from shared.dicom.header import quiet_reader
from shared.dicom.index import scan_folder
from shared.dicom.label_map import Choice, marked
from shared.dicom.pixels import decode
from shared.errors import StudyError
from shared.modalities.mammography.image import MammogramImage
from shared.modalities.mammography.tags import VIEWS, View
from shared.preprocessing.resample import HALF, Axis, resample
from shared.types import BoolArray, FloatArray

MARGIN = 100.0
SIDE = 224
_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData"),
]
_AFTER_PIXELS = 0x7FE0_0011
_BYTES_A_PIXEL = 4
_VIEW = "{view}"


@dataclass(frozen=True, slots=True)
class Square:
    """A square window of an image, which may reach beyond it: first row and column, and side, in pixels."""

    top: float
    left: float
    side: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A window of an image, resized: float32 and bool `(side, side)`; 0 beyond the image."""

    pixels: FloatArray
    mask: BoolArray
    window: Square


def roi_files(case: Case, views: Collection[View]) -> dict[View, Path]:
    """Mask files of these views: `CC.dcm` and `MLO.dcm` in the folder that the row names, or one file for one view.

    A last part with `{view}` in it stands for a file or folder of each view. Of a folder the largest image is the mask:
    CBIS-DDSM's hold a cut-out, too, and neither name nor description tells which one it is.

    A view without a file has no region. Raises `StudyError` (`no_mask`) where no view has one.
    """
    path = case.mask_path()
    if path is not None and (_VIEW in path.name or path.is_dir()):
        places: dict[View, Path] = {view: _of_view(path, view) for view in VIEWS if view in views}
        if masks := {view: place for view, place in places.items() if place.is_file()}:
            return masks
        raise StudyError("no_mask", "no mask lies there of a view that can be read: CC.dcm, MLO.dcm, or by {view}")
    if path is None or not path.is_file():
        raise StudyError("no_mask", "the row names no mask, or it is absent")
    if len(views) != 1:
        raise StudyError("no_mask", "one mask stands for two views; name a folder that holds CC.dcm and MLO.dcm")
    return dict.fromkeys(views, path)


def _of_view(path: Path, view: View) -> Path:
    """Where a view's mask lies; no file where there is none."""
    if _VIEW not in path.name:
        return path / f"{view}.dcm"
    place = path.with_name(path.name.replace(_VIEW, view))
    if not place.is_dir():
        return place
    images = scan_folder(place)[0]
    return max(images, key=lambda image: image.rows * image.columns).path if images else place


def read_roi(path: Path, image: MammogramImage, choice: Choice = None) -> BoolArray:
    """Read a view's mask, bool `(y, x)` as `image.pixels` is; `choice` says which labels are meant.

    Raises
    ------
    StudyError
        `unreadable_mask`, also of values that are no labels; `mask_mismatch`: of another size than the image, or none
        of it on the breast; `empty_mask`.

    """
    rows, columns = image.pixels.shape
    try:
        with quiet_reader():
            dataset = read_tags(path, _TAGS, _AFTER_PIXELS, rows * columns * _BYTES_A_PIXEL + SPARE)
            stated = int(dataset.Rows), int(dataset.Columns)
            if stated != (rows, columns):  # before it is decoded
                raise StudyError("mask_mismatch", f"a mask of {stated} pixels for an image of {(rows, columns)}")
            if int(dataset.get("NumberOfFrames") or 1) != 1 or int(dataset.get("SamplesPerPixel") or 1) != 1:
                raise StudyError("unreadable_mask", "a mask of a mammogram has one frame of one channel")
            check_frames(dataset, 1)
            stored = decode(dataset)
    except StudyError as error:
        kept = error.reason in {"mask_mismatch", "unreadable_mask"}
        raise StudyError(error.reason if kept else "unreadable_mask", error.detail) from None
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_mask", "the mask's file is damaged or no DICOM image; export it again") from None
    mask = image.turned(marked(np.asarray(stored), choice))
    if not mask.any():
        raise StudyError("empty_mask", "the mask has no pixel; correct it, or take it out of the row")
    if not (mask & image.breast).any():
        raise StudyError("mask_mismatch", "the mask lies beside the breast: it is of another view, or mirrored")
    return mask


def roi_square(mask: BoolArray, margin: float = MARGIN) -> Square:
    """The box around a mask, widened by `margin` pixels at each side, and its shorter side widened to a square."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((float(axis[0]), float(axis[-1]) + 1.0) for axis in (rows, columns))
    side = max(bottom - top, right - left) + 2.0 * margin
    return Square(0.5 * (top + bottom - side), 0.5 * (left + right - side), side)


def cut_roi(
    image: MammogramImage,
    mask: BoolArray,
    *,
    margin: float = MARGIN,
    unit: Literal["pixels", "mm"] = "pixels",
    side: int = SIDE,
) -> Patch:
    """Cut the region's square out of an image and resize it to `(side, side)`.

    Raises `StudyError` (`no_pixel_spacing`) where the margin is in mm and the image has no spacing.
    """
    if unit == "mm":
        if image.pixel_mm is None:
            raise StudyError("no_pixel_spacing", "no tag says how large pixels are; give the margin in pixels")
        margin /= image.pixel_mm
    window = roi_square(mask, margin)
    step = window.side / side
    pixels = cut_window(image.pixels, window.top, window.left, step, (side, side))
    share = cut_window(mask.astype(np.float32), window.top, window.left, step, (side, side))
    # Of a speck that fills half of no pixel, those are left that it fills most.
    return Patch(pixels, share >= min(HALF, float(share.max())) - 1e-6, window)


def cut_window(pixels: FloatArray, top: float, left: float, step: float, shape: tuple[int, int]) -> FloatArray:
    """Cut a window of an image `(y, x)` and resize it to `shape`; its pixels are `step` wide, 0 beyond the image."""
    # Centres of pixels are whole numbers, so a pixel begins half before.
    target = [Axis(first - 0.5 + 0.5 * step, step, size) for first, size in zip((top, left), shape, strict=True)]
    beyond = int(np.ceil(step)) + 1
    first = [max(0, int(np.floor(start)) - beyond) for start in (top, left)]
    last = [int(np.ceil(start + step * size)) + beyond for start, size in zip((top, left), shape, strict=True)]
    near = pixels[first[0] : last[0], first[1] : last[1]]
    none = Axis(0.0, 1.0, 1)
    source = [Axis(float(start), 1.0, size) for start, size in zip(first, near.shape, strict=True)]
    window: FloatArray = resample(near[None, None], (none, *source), (none, *target))[0, 0]
    return window
