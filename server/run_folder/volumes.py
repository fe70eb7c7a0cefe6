"""Small volumes of single cases for the report's viewer: stored in the study's folder, read without unpickling.

What is stored is what the viewer shows: 90 mm around the lesion in grey levels of a byte, with both masks as bits. File
names are pseudonyms.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from server.run_folder.pictures import largest_section
from server.run_folder.results import replace_file
from shared.errors import RunError
from shared.types import BoolArray, FloatArray

LARGEST = (64, 80, 80)
"""Voxels `(z, y, x)` of a stored volume at most."""
WINDOW_PERCENTILES = (1.0, 99.7)
_LESION_PERCENTILE = 99.0
_WHITE = 255
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)  # what zipfile and numpy raise on bytes that are no archive of arrays


_FIELD_MM = 90.0  # what is kept around the reference


@dataclass(frozen=True, slots=True)
class Volume:
    """A stored case.

    Attributes
    ----------
    label
        Why it was chosen: `best`, `median` or `worst`.
    case
        Its pseudonym.
    image
        What is shown below the masks, uint8 `(z, y, x)`, LPS: 0 is `bounds[0]`, 255 is `bounds[1]`.
    reference, prediction
        Boolean `(z, y, x)` on the same grid.
    spacing
        `(z, y, x)`, mm.
    bounds
        Signal of black and of white, a.u.

    """

    label: str
    case: str
    image: npt.NDArray[np.uint8]
    reference: BoolArray
    prediction: BoolArray
    spacing: tuple[float, float, float]
    bounds: tuple[float, float]


def store_volume(
    path: Path,
    case: str,
    label: str,
    *,
    image: FloatArray,
    reference: BoolArray,
    prediction: BoolArray,
    spacing: tuple[float, float, float],
) -> None:
    """Store 90 mm around a case's lesion for the viewer, atomically; the same input gives the same bytes.

    The box is centred as the pictures are (`pictures.largest_section`). An axis with more voxels than `LARGEST` is
    resampled over the same mm: linearly for the image, from the nearest voxel for the masks.

    Parameters
    ----------
    path
        File to write, `.npz`.
    case, label
        The case's pseudonym, and why it was chosen.
    image
        What is shown below the masks, `(z, y, x)`, LPS.
    reference, prediction
        Boolean `(z, y, x)` on the same grid.
    spacing
        `(z, y, x)`, mm.

    """
    centre = largest_section(reference if reference.any() else prediction)
    box = tuple(
        slice(max(0, middle - round(_FIELD_MM / 2 / step)), middle + round(_FIELD_MM / 2 / step) + 1)
        for middle, step in zip(centre, spacing, strict=True)
    )
    # Cut before the conversion: the whole image can be a hundred times the box.
    signal = _at_most(np.asarray(image[box], np.float64), order=1)
    low, high = (float(bound) for bound in np.percentile(signal, WINDOW_PERCENTILES))
    inside = _at_most((reference | prediction)[box].astype(np.uint8), order=0) > 0
    if inside.any():
        # A small lesion is the brightest of its box, and would be plain white.
        high = max(high, float(np.percentile(signal[inside], _LESION_PERCENTILE)))
    span = high - low or 1.0
    sizes = reference[box].shape
    arrays: dict[str, npt.NDArray[Any]] = {
        "case": np.array(case),
        "label": np.array(label),
        "image": np.rint(np.clip((signal - low) / span, 0.0, 1.0) * _WHITE).astype(np.uint8),
        "spacing": np.array([s * n / m for s, n, m in zip(spacing, sizes, signal.shape, strict=True)], np.float64),
        "bounds": np.array([low, high], np.float64),
    }
    for name, mask in (("reference", reference), ("prediction", prediction)):
        arrays[name] = np.packbits(_at_most(mask[box].astype(np.uint8), order=0))
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    replace_file(path, content.getvalue())


def _at_most(volume: npt.NDArray[Any], order: Literal[0, 1]) -> npt.NDArray[Any]:
    """The volume on at most `LARGEST` voxels over the same extent."""
    factors = [min(1.0, most / size) for most, size in zip(LARGEST, volume.shape, strict=True)]
    if min(factors) == 1.0:
        return volume
    resampled: npt.NDArray[Any] = ndimage.zoom(volume, factors, order=order, mode="nearest", grid_mode=True)
    return resampled


def read_volumes(folder: Path) -> list[Volume]:
    """The volumes in a folder in the order of their file names; none without the folder.

    `RunError` where a file is not what `store_volume` writes. Nothing is unpickled.
    """
    return [_read_volume(file) for file in sorted(folder.glob("*.npz"))]


def _read_volume(file: Path) -> Volume:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            image, (low, high) = stored["image"], (float(bound) for bound in stored["bounds"])
            depth, height, width = (float(step) for step in stored["spacing"])
            if image.dtype != np.uint8 or any(n > most for n, most in zip(image.shape, LARGEST, strict=True)):
                raise ValueError("not a small volume of bytes")
            if not (
                min(depth, height, width) > 0 and np.isfinite([depth, height, width, low, high]).all() and low <= high
            ):
                raise ValueError("spacing or bounds are no measures")
            masks = {name: _unpacked(stored[name], image.shape) for name in ("reference", "prediction")}
            return Volume(
                str(stored["label"]), str(stored["case"]), image, **masks, spacing=(depth, height, width),
                bounds=(low, high),
            )  # fmt: skip
    except _DAMAGE as error:
        raise RunError(f"{file.parent.name}/{file.name} cannot be read: delete it or run the study again") from error


def _unpacked(bits: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> BoolArray:
    if bits.dtype != np.uint8 or bits.size != math.ceil(math.prod(shape) / 8):
        raise ValueError("a mask of another size than the image")
    return np.unpackbits(bits, count=math.prod(shape)).astype(np.bool_).reshape(shape)
