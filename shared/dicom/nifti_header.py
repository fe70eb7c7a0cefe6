"""The header of a NIfTI-1 file: whether it is whole, and says where its voxels lie (nifti1.h)."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.dicom.budget import BoundedFile, check_volumes
from shared.errors import StudyError

Doubles = npt.NDArray[np.float64]

_NIFTI_HEADER = 348
_CHUNK = 2**20
_MOST_BEFORE_VOXELS = 2**24
"""Bytes of a volume's header, with the extensions that a NIfTI file may have."""
_IDENTITY_ROWS = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_VOXELS_APART = 0.1
_FARTHEST_MM = 1e6


def check_nifti(path: Path, most: int) -> None:
    """Check mark, length and affines of a NIfTI-1 file, of which `most` bytes may be taken into memory.

    Raises
    ------
    StudyError
        `unreadable_file`: over the budget. `no_pixel_spacing`: no affine, or one that tools write if they do not know
        it. `mixed_geometry`: qform and sform put a voxel more than a tenth of a voxel apart. A damaged file raises
        `ValueError` and others.

    """
    with (
        BoundedFile(path, most) as file,
        gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file as stream,
    ):
        head = stream.read(_NIFTI_HEADER)
        order = "<" if head[:4] == struct.pack("<i", _NIFTI_HEADER) else ">"
        (length,) = struct.unpack_from(f"{order}i", head, 0)
        if length != _NIFTI_HEADER or head[344:348] != b"n+1\0":
            raise ValueError("not a NIfTI-1 file")
        dimensions = struct.unpack_from(f"{order}8h", head, 40)
        (bits,) = struct.unpack_from(f"{order}h", head, 72)
        (offset,) = struct.unpack_from(f"{order}f", head, 108)
        voxels = math.prod(max(size, 1) for size in dimensions[1:])
        check_volumes(voxels, 0, bits // 8, most)
        if not 0 <= offset <= _MOST_BEFORE_VOXELS:
            raise ValueError("no offset of voxels")
        needed = int(offset) + voxels * bits // 8
        read = _NIFTI_HEADER
        # Read to the end, where gzip compares its checksum, but not much further than the header says (zip bomb).
        while chunk := stream.read(_CHUNK):
            read += len(chunk)
            if read > needed + _CHUNK:
                raise ValueError("longer than its header says")
        if read < needed:
            raise ValueError("truncated")
    _check_affines(head, order, dimensions)


def _check_affines(head: bytes, order: str, dimensions: tuple[int, ...]) -> None:
    qform, sform = struct.unpack_from(f"{order}2h", head, 252)
    pixdim = struct.unpack_from(f"{order}4f", head, 76)
    rows = struct.unpack_from(f"{order}12f", head, 280)
    sized = all(0 < step < math.inf for step in pixdim[1:])
    if not sized or (qform <= 0 and sform <= 0) or (sform > 0 and rows == _IDENTITY_ROWS):
        raise StudyError("no_pixel_spacing", "the NIfTI header holds no affine; write the true spacing into it")
    spacing = np.array(pixdim[1:])
    by_sform = np.array(rows, np.float64).reshape(3, 4)
    by_qform = _by_quaternion(struct.unpack_from(f"{order}6f", head, 256), spacing, -1.0 if pixdim[0] < 0 else 1.0)
    used = [affine for code, affine in ((qform, by_qform), (sform, by_sform)) if code > 0]
    if not all(np.isfinite(affine).all() and np.abs(affine).max() < _FARTHEST_MM for affine in used):
        raise ValueError("an affine that is none")
    steps = np.maximum(np.array(dimensions[1:4]) - 1, 0)
    lengths = np.linalg.norm(by_sform[:, :3], axis=0)
    if sform > 0 and (np.abs(lengths - spacing) * steps > _VOXELS_APART * spacing).any():
        raise StudyError(
            "mixed_geometry", "a NIfTI header's affine (sform) has other voxels than its pixdim: write the right ones"
        )
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= steps
    apart = np.abs(corners @ (used[0] - used[-1]).T).max()
    if apart > _VOXELS_APART * spacing.min():
        raise StudyError(
            "mixed_geometry",
            "the two affines of a NIfTI header (qform and sform) put its voxels at unlike places: write the right one "
            "into both",
        )


def _by_quaternion(values: tuple[float, ...], spacing: npt.NDArray[np.float64], handedness: float) -> Doubles:
    """Affine `(3, 4)` in mm of quaternion and offset, `b, c, d, x, y, z` (nifti1.h, method 2)."""
    b, c, d, *offset = values
    square = b * b + c * c + d * d
    if square > 1.0:  # of rounding: half a turn
        b, c, d = (value / math.sqrt(square) for value in (b, c, d))
    a = math.sqrt(max(1.0 - square, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    return np.column_stack([rotation * spacing * (1.0, 1.0, handedness), offset])
