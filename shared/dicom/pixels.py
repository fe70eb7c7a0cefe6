"""Read the pixels of one slice or view, in stored units after rescale."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEGLossless, JPEGLosslessSV1, SecondaryCaptureImageStorage

from shared.dicom.budget import SPARE, check_frames, read_tags
from shared.dicom.header import FileHeader, quiet_reader
from shared.errors import StudyError
from shared.types import FloatArray

_PIXEL_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "RescaleIntercept", "RescaleSlope"),
    "PixelData",
]
_AFTER_PIXELS = 0x7FE0_0011
_BYTES_A_PIXEL = 16  # twice the longest samples
_OF_THE_STREAM = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def read_pixels(header: FileHeader) -> FloatArray:
    """Read the pixels of one slice, float32 `(y, x)` in stored units after rescale.

    MONOCHROME1 (white is low) is converted to MONOCHROME2 by inverting the stored values within BitsStored before the
    rescale (PS3.3 C.7.6.3.1.2), so that both encodings give the same image.

    Raises
    ------
    StudyError
        `unreadable_file`: truncated pixel data, missing codec, colour image, a rescale slope of zero, or pixels of
        another size than the header says.

    """
    try:
        with quiet_reader():
            most = header.rows * header.columns * _BYTES_A_PIXEL + SPARE
            dataset = read_tags(header.path, _PIXEL_TAGS, _AFTER_PIXELS, most)
            if int(dataset.get("NumberOfFrames") or 1) != 1:
                raise StudyError("unreadable_file", "several frames stand where one grey slice was expected")
            check_frames(dataset, 1)
            stored = decode(dataset)
            slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
            inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
            bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - decoders may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "pixel data are cut off, damaged or of a codec not installed") from None
    if stored.shape != (header.rows, header.columns):
        raise StudyError("unreadable_file", f"pixel data of shape {stored.shape} where one grey slice was expected")
    if not np.isfinite([slope, intercept]).all() or slope == 0.0:
        raise StudyError("unreadable_file", "RescaleSlope is zero or not a number")
    values = stored.astype(np.float32)
    if inverted:
        values = (-1.0 if signed else 2.0**bits - 1.0) - values
    return np.asarray(values * np.float32(slope) + np.float32(intercept), dtype=np.float32)


def decode(dataset: Any) -> npt.NDArray[Any]:
    """Stored values of a dataset of one frame, which `check_frames` has passed.

    pydicom has no pinned decoder of JPEG lossless (process 14), which many archives use. SimpleITK has one, which
    reads files: it gets one of its own, with the compressed pixels and no tag of the patient. Junk raises anything.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in {JPEGLossless, JPEGLosslessSV1}:
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
