"""Read the pixels of slices or views, in stored units after rescale, or in the scanner's own where they are known."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, SecondaryCaptureImageStorage

from shared.dicom.budget import SPARE, check_frames, read_tags
from shared.dicom.enhanced import PHILIPS, text_of_scale
from shared.dicom.frames import FramesOfFile
from shared.dicom.header import FileHeader, quiet_reader
from shared.dicom.values import numbers
from shared.errors import StudyError
from shared.types import FloatArray

_PIXEL_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "RescaleIntercept", "RescaleSlope"),
]
_BLOCKS = range(0x10, 0x100)
_PHILIPS_GROUP = 0x2005
_PRIVATE = [0x2005_0000 | tag for block in _BLOCKS for tag in (block, block << 8 | 0x0E)]
"""Tags that may name the owner of a block of private ones, and Philips' scale in each block (PS3.5 7.8)."""
_FUNCTIONAL_GROUPS = 0x5200_0000
_AFTER_PIXELS = 0x7FE0_0011
_BYTES_A_PIXEL = 16  # twice the longest samples
_OF_THE_STREAM = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def read_pixels(header: FileHeader) -> FloatArray:
    """Read the pixels of one slice, float32 `(y, x)`; see `read_slices`."""
    return next(read_slices([header]))[0]


def read_slices(headers: Iterable[FileHeader]) -> Iterator[tuple[FloatArray, float | None]]:
    """Read slices one after another, float32 `(y, x)`, and what each was scaled with; a file of several is parsed once.

    Values are in stored units after rescale, which come with the slope. Philips' slopes are those of a display: its
    values are given in the scanner's own units, which come with None, where the file has ScaleSlope (2005,100E):
    stored x slope + intercept, divided by slope x ScaleSlope (Chenevert et al., Transl Oncol 2014;7:65).

    MONOCHROME1 (white is low) is converted to MONOCHROME2 by inverting the stored values within BitsStored before the
    rescale (PS3.3 C.7.6.3.1.2), so that both encodings give the same image.

    Raises
    ------
    StudyError
        `unreadable_file`: truncated pixel data, a codec that is not read, colour image, a slope or scale of zero, or
        pixels of another size than the header says.

    """
    files: dict[Path, FramesOfFile] = {}
    for header in headers:
        try:
            with quiet_reader():
                yield _read_slice(header, files)
        except StudyError:
            raise
        except Exception:  # noqa: BLE001 - decoders may raise any exception, whose text may contain tags
            raise StudyError("unreadable_file", "pixel data are cut off, damaged or of a codec not installed") from None


def _read_slice(header: FileHeader, files: dict[Path, FramesOfFile]) -> tuple[FloatArray, float | None]:
    frame = header.frame
    if frame is None:
        most = header.rows * header.columns * _BYTES_A_PIXEL + SPARE
        dataset = read_tags(header.path, [*_PIXEL_TAGS, "PixelData", *_PRIVATE], _AFTER_PIXELS, most)
        if int(dataset.get("NumberOfFrames") or 1) != 1:
            raise StudyError("unreadable_file", "several frames stand where one grey slice was expected")
        slope, intercept = (_number(dataset.get(f"Rescale{name}")) for name in ("Slope", "Intercept"))
        scale = _philips_scale(dataset)
    else:
        if header.path not in files:
            tags = read_tags(header.path, _PIXEL_TAGS, _FUNCTIONAL_GROUPS, SPARE)
            files[header.path] = FramesOfFile(header, tags)
        dataset = files[header.path].read(frame.index)
        slope, intercept, scale = frame.slope, frame.intercept, frame.scale_slope
    check_frames(dataset, 1)
    stored = decode(dataset)
    if stored.shape != (header.rows, header.columns):
        raise StudyError("unreadable_file", f"pixel data of shape {stored.shape} where one grey slice was expected")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not all(math.isfinite(value) for value in (slope, intercept, scale or 0.0)) or 0.0 in {slope, scale}:
        raise StudyError("unreadable_file", "RescaleSlope is zero or not a number, or ScaleSlope is")
    values = stored.astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (-1.0 if dataset.PixelRepresentation else 2.0 ** int(dataset.BitsStored) - 1.0) - values
    if scale is not None:
        slope, intercept = 1.0 / scale, intercept / (slope * scale)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(values * np.float32(slope) + np.float32(intercept), dtype=np.float32)
    if not np.isfinite(values).all():
        raise StudyError("unreadable_file", "pixels are no finite numbers after rescale")
    return values, slope if scale is None else None


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def _philips_scale(dataset: Any) -> float | None:
    """ScaleSlope of the block that Philips' tags have in this file."""
    for tag in [tag for tag in dataset.keys() if tag.group == _PHILIPS_GROUP and tag.element in _BLOCKS]:  # noqa: SIM118
        owner, scale = dataset.get_item(tag), dataset.get_item(tag << 8 & 0xFF00 | tag & 0xFFFF_0000 | 0x0E)
        name = owner.value.decode("latin-1") if isinstance(owner.value, bytes) else str(owner.value)
        if name.strip(" \0") == PHILIPS and scale is not None and isinstance(scale.value, bytes):
            text = text_of_scale(scale.VR or "", scale.value, "<" if scale.is_little_endian else ">")
            return (*numbers(text), math.nan)[0] if text else None
    return None


def decode(dataset: Any) -> npt.NDArray[Any]:
    """Stored values of a dataset of one frame, which `check_frames` has passed.

    pydicom has no pinned decoder of JPEG lossless (process 14), which many archives use, nor of JPEG Extended with 12
    bits. SimpleITK has them, and reads files: it gets one of its own, with the compressed pixels and no tag of the
    patient. Junk raises anything.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in {JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1}:
        stored: npt.NDArray[Any] = dataset.pixel_array
        return stored
    import SimpleITK as sitk

    alone = pydicom.Dataset()
    alone.file_meta = pydicom.dataset.FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = syntax
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
    alone.SamplesPerPixel, alone.PhotometricInterpretation = 1, "MONOCHROME2"
    for keyword in _OF_THE_STREAM:
        setattr(alone, keyword, dataset[keyword].value)
    alone.PixelData = encapsulate([get_frame(dataset.PixelData, 0, number_of_frames=1)])
    alone["PixelData"].VR = "OB"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        pydicom.dcmwrite(path, alone, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        return np.asarray(sitk.GetArrayFromImage(reader.Execute())[0])
