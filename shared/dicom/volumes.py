"""Read NIfTI and NRRD volumes with SimpleITK and reorient them to LPS.

Other formats of SimpleITK are refused, because it returns random voxels of a truncated MetaImage. It does so for NIfTI
too, whose header and length are therefore checked here first.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from shared.dicom.geometry import from_image, to_lps
from shared.errors import StudyError
from shared.types import FloatArray, Grid

_MAX_VOXELS = 2**29
_DIMENSIONS = 3
_NIFTI_HEADER = 348
_CHUNK = 2**20
_IDENTITY_ROWS = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def read_volume(path: Path) -> tuple[FloatArray, Grid]:
    """Read one NIfTI or NRRD volume, float32 `(z, y, x)` in LPS.

    Raises
    ------
    StudyError
        `unreadable_file`: another format, damaged, truncated, not 3D, not finite or too large. `no_pixel_spacing`: a
        NIfTI header without an affine, or with the identity, which tools write if they do not know the affine; it is
        never assumed to mean 1 mm.

    """
    return to_lps(*read_stored(path))


def read_stored(path: Path) -> tuple[FloatArray, Grid]:
    """As `read_volume`, in the orientation of the file."""
    name = path.name.lower()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings contain the path
    try:
        if name.endswith((".nii", ".nii.gz")):
            _check_nifti(path)
        elif not name.endswith(".nrrd"):
            raise StudyError("unreadable_file", "a volume must be NIfTI (.nii, .nii.gz) or NRRD (.nrrd)")
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != _DIMENSIONS or int(np.prod(size, dtype=np.int64)) > _MAX_VOXELS:
            raise StudyError("unreadable_file", f"a volume of size {size} is not a 3D image we take")
        image = reader.Execute()
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error):  # their texts contain the path
        raise StudyError("unreadable_file", "a volume file is missing, damaged or of another format") from None
    stored, grid = from_image(image)
    values = stored.astype(np.float32)
    if values.ndim != _DIMENSIONS or not np.isfinite(values).all():
        raise StudyError("unreadable_file", "a volume holds colours, or values that are not finite")
    return values, grid


def _check_nifti(path: Path) -> None:
    """Check mark, length and affine of a NIfTI-1 file (nifti1.h); raises `ValueError` and others if it is damaged."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        head = stream.read(_NIFTI_HEADER)
        order = "<" if head[:4] == struct.pack("<i", _NIFTI_HEADER) else ">"
        (length,) = struct.unpack_from(f"{order}i", head, 0)
        if length != _NIFTI_HEADER or head[344:348] != b"n+1\0":
            raise ValueError("not a NIfTI-1 file")
        dimensions = struct.unpack_from(f"{order}8h", head, 40)
        (bits,) = struct.unpack_from(f"{order}h", head, 72)
        (offset,) = struct.unpack_from(f"{order}f", head, 108)
        voxels = math.prod(max(size, 1) for size in dimensions[1:])
        if voxels > _MAX_VOXELS:
            raise ValueError("too large")
        needed = int(offset) + voxels * bits // 8
        read = _NIFTI_HEADER
        # Read to the end, where gzip compares its checksum, but not much further than the header says (zip bomb).
        while chunk := stream.read(_CHUNK):
            read += len(chunk)
            if read > needed + _CHUNK:
                raise ValueError("longer than its header says")
        if read < needed:
            raise ValueError("truncated")
    qform, sform = struct.unpack_from(f"{order}2h", head, 252)
    spacing = struct.unpack_from(f"{order}3f", head, 80)
    rows = struct.unpack_from(f"{order}12f", head, 280)
    if (qform <= 0 and sform <= 0) or min(spacing) <= 0 or (sform > 0 and rows == _IDENTITY_ROWS):
        raise StudyError("no_pixel_spacing", "the NIfTI header holds no affine; write the true spacing into it")
