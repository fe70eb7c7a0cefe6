"""From the stored values of a mammogram to grey values: rescale, padding, window or table, exposure to attenuation.

The order is DICOM's (PS3.3 C.11.1, C.11.2): stored values are rescaled, then brought to 0..1 by a window or table of
values of interest. Which end is white is `breast`'s concern.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.dicom.budget import SPARE, check_frames, read_tags
from shared.dicom.header import quiet_reader
from shared.dicom.pixels import decode
from shared.errors import StudyError
from shared.modalities.mammography.tags import ViewTags
from shared.types import BoolArray, FloatArray

_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("VOILUTSequence", "PresentationLUTShape", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    "PixelData",
]
_AFTER_PIXELS = 0x7FE0_0011
_MOST_TAGS = 1 << 22
_BYTES_A_PIXEL = 4  # twice the longest samples
_BITS = (8, 16)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A mammogram's values after rescale, float32 `(y, x)`, its padding, and its tags of grey values.

    `top` is the highest stored value that its bits hold, after rescale.
    """

    values: FloatArray
    padding: BoolArray
    top: float
    dataset: Any

    def text(self, keyword: str) -> str:
        """A tag's first value in capitals; empty if it is missing."""
        value = _first(self.dataset, keyword)
        return "" if value is None else str(value).strip().upper()


def read_stored(tags: ViewTags) -> StoredImage:
    """Read and rescale a mammogram's pixels.

    Raises
    ------
    StudyError
        `unreadable_file`: truncated pixels, no codec, a colour image, samples of other than 8 or 16 bits, a slope of
        zero, over the budget. `blank_image`: all pixels besides padding have one value.

    """
    try:
        with quiet_reader():
            most = tags.header.rows * tags.header.columns * _BYTES_A_PIXEL + SPARE + _MOST_TAGS
            dataset = read_tags(tags.path, _TAGS, _AFTER_PIXELS, most)
            if int(dataset.BitsAllocated) not in _BITS or int(dataset.get("SamplesPerPixel", 1)) != 1:
                raise StudyError("unreadable_file", "a colour image, or samples of other than 8 or 16 bits")
            check_frames(dataset, 1)
            stored = decode(dataset)
            if stored.shape != (tags.header.rows, tags.header.columns):
                raise StudyError("unreadable_file", f"pixel data of shape {stored.shape}, the header says another one")
            padding = _padding(dataset, stored)
            highest = 2 ** (int(dataset.BitsStored) - int(dataset.PixelRepresentation)) - 1
            values = _rescaled(dataset, stored)
            top = float(_rescaled(dataset, np.array([highest]))[0])
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - decoders may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "pixel data are cut off, damaged or of a codec not installed") from None
    shown = values[~padding]
    if not shown.size or shown.min() == shown.max():
        raise StudyError("blank_image", "all pixels have one value; fetch the image again, or take it out")
    return StoredImage(values, padding, top, dataset)


def _rescaled(dataset: Any, stored: npt.NDArray[Any]) -> FloatArray:
    """Apply the table of the Modality LUT sequence, or slope and intercept (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _through_table(dataset, dataset.ModalityLUTSequence[0], stored)[0]
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if dataset.get("RescaleSlope") == 0 or not np.isfinite([slope, intercept]).all():
        raise StudyError("unreadable_file", "RescaleSlope is zero or not a number")
    return np.asarray(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept))


def _padding(dataset: Any, stored: npt.NDArray[Any]) -> BoolArray:
    """Pixels that are none of the image: of PixelPaddingValue, or up to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(stored.shape, np.bool_)
    first = int(ends[0])
    last = first if ends[1] is None else int(ends[1])
    return np.asarray((stored >= min(first, last)) & (stored <= max(first, last)))


def windowed(image: StoredImage) -> tuple[FloatArray | None, str]:
    """Apply the image's own values of interest, if it has some: grey values in 0..1, and what was applied.

    The first table of several goes before the first window. A window that leaves no contrast is not applied.
    """
    sequence = image.dataset.get("VOILUTSequence")
    centre, width = _first(image.dataset, "WindowCenter"), _first(image.dataset, "WindowWidth")
    if sequence:
        grey, most = _through_table(image.dataset, sequence[0], image.values)
        grey, done = grey / np.float32(most), "table of values of interest"
    elif centre is not None and width is not None:
        function = image.text("VOILUTFunction") or "LINEAR"
        done = f"window {function.lower().replace('_', ' ')}" if function in _LEAST_WIDTH else "window"
        if not (
            float(width) >= _LEAST_WIDTH.get(function, np.inf) and np.isfinite([float(centre), float(width)]).all()
        ):
            return None, "an impossible window is not applied"
        grey = through_window(image.values, float(centre), float(width), function)
    else:
        return None, "no window"
    shown = grey[~image.padding]
    if shown.min() == shown.max():
        return None, f"a {done} that leaves no contrast is not applied"
    return grey, done


_LEAST_WIDTH = {"LINEAR": 1.0, "LINEAR_EXACT": sys.float_info.min, "SIGMOID": sys.float_info.min}


def through_window(values: FloatArray, centre: float, width: float, function: str) -> FloatArray:
    """Grey values in 0..1 by a window: `LINEAR`, `LINEAR_EXACT` or `SIGMOID` (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width)), np.float32)
    if function == "LINEAR":
        if width == 1.0:
            return np.asarray(values > centre - 0.5, np.float32)
        centre, width = centre - 0.5, width - 1.0
    return np.asarray(np.clip((values - centre) / width + 0.5, 0.0, 1.0), np.float32)


def _through_table(dataset: Any, item: Any, values: npt.NDArray[Any]) -> tuple[FloatArray, float]:
    """Look values up in a table, and its highest entry, which some devices do not fit to the bits they name.

    Values beyond the table's ends take its first or last entry (PS3.3 C.11.1.1, C.11.2.1.1).
    """
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, "u1" if len(data) <= (count or 1 << 16) + 1 and bits == _BITS[0] else f"{order}u2")
    entries = np.asarray(data).astype(np.int64) & 0xFFFF
    entries = entries[: count or 1 << 16].astype(np.float32)
    if dataset.PixelRepresentation and first >= 1 << 15:
        first -= 1 << 16
    looked_up = entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)]
    return looked_up, max(float(entries.max()), 1.0)


def attenuation(image: StoredImage, *, against_sign: bool = False) -> tuple[FloatArray, str]:
    """What the breast took from the beam, unscaled, of an image For Processing, and how it was computed.

    Stored are values linear in the exposure or its logarithm, rising or falling with it (PixelIntensityRelationship
    and its Sign, PS3.3 C.8.11.3.1.2); the law of Beer and Lambert makes minus the logarithm proportional to the tissue.
    `against_sign` reads them the other way round than the sign says.
    """
    sign = _first(image.dataset, "PixelIntensityRelationshipSign")
    falls = (sign is not None and int(sign) < 0) != against_sign
    if image.text("PixelIntensityRelationship") == "LOG":
        return (image.values if falls else -image.values), "minus the logarithm of the exposure, as stored"
    exposure = image.top - image.values if falls else image.values
    said = "" if image.text("PixelIntensityRelationship") == "LIN" and sign is not None else ", which is assumed"
    return -np.log(np.maximum(exposure, 1.0)), f"minus the logarithm of the exposure, stored linearly{said}"


def _first(dataset: Any, keyword: str) -> Any:
    """The first of a tag's values, None if it is missing or empty."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, str):
        return value or None
    try:
        return next(iter(value), None)
    except TypeError:
        return value
