"""Read NIfTI and NRRD volumes with SimpleITK and reorient them to LPS.

Other formats of SimpleITK are refused, because it returns random voxels of a truncated MetaImage. It does so for NIfTI
too, whose header and length are therefore checked here first. An NRRD header may name any file of the machine as its
data: only one that holds its own is read.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from shared.dicom.budget import MOST_EXAM, BoundedFile, check_volumes
from shared.dicom.geometry import from_image, to_lps
from shared.dicom.nifti_header import check_nifti
from shared.errors import StudyError
from shared.types import FloatArray, Grid

_DIMENSIONS = 3
_CHUNK = 2**20
_NRRD_FIELDS = frozenset(
    {
        *("type", "dimension", "space", "space dimension", "space directions", "space origin", "space units", "sizes"),
        *("spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs", "centers", "centerings"),
        *("labels", "units", "kinds", "endian", "encoding", "content", "min", "max", "old min", "oldmin", "old max"),
        *("oldmax", "number", "block size", "blocksize", "sample units", "sampleunits", "measurement frame"),
    }
)
"""Fields of an NRRD header, all but those that say where else the data are: data file, byte skip and line skip."""


def read_volume(path: Path) -> tuple[FloatArray, Grid]:
    """Read one NIfTI or NRRD volume, float32 `(z, y, x)` in LPS.

    Raises
    ------
    StudyError
        `unreadable_file`: another format, damaged, truncated, not 3D, not finite or too large. `no_pixel_spacing`: a
        NIfTI header without an affine, or with the identity, which tools write if they do not know the affine; it is
        never assumed to mean 1 mm. `mixed_geometry`: two affines that differ.

    """
    return Volume(path).read()


class Volume:
    """A volume's file, of which only the header has been read; errors as `read_volume`.

    Attributes
    ----------
    shape
        Voxels along `(z, y, x)` of the file.
    beside
        Bytes that each voxel takes while it is read, for `check_volumes`: SimpleITK holds a volume twice.

    """

    def __init__(self, path: Path, *, most: int = MOST_EXAM) -> None:
        """Read the header; `most` bytes may the volume take in memory."""
        name = path.name.lower()
        self._path = path
        self._reader = sitk.ImageFileReader()
        sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings contain the path
        try:
            if name.endswith((".nii", ".nii.gz")):
                self._reader.SetImageIO("NiftiImageIO")
                check_nifti(path, most)
            elif name.endswith(".nrrd"):
                self._reader.SetImageIO("NrrdImageIO")
                _check_nrrd(path)
            else:
                raise StudyError("unreadable_file", "a volume must be NIfTI (.nii, .nii.gz) or NRRD (.nrrd)")
            with _plainly_named(path) as link:
                self._reader.SetFileName(link)
                self._reader.ReadImageInformation()
        except _DAMAGE:
            raise StudyError("unreadable_file", _DAMAGED) from None
        size, components = self._reader.GetSize(), self._reader.GetNumberOfComponents()
        if len(size) != _DIMENSIONS or components != 1:
            raise StudyError("unreadable_file", f"a volume of size {size} is not a 3D image we take, or holds colours")
        self.shape = size[2], size[1], size[0]
        self.beside = 2 * sitk.Image(1, 1, self._reader.GetPixelID()).GetSizeOfPixelComponent()
        check_volumes(math.prod(size), 0, self.beside, most)

    def read(self) -> tuple[FloatArray, Grid]:
        """Read the voxels, float32 `(z, y, x)` in LPS."""
        stored, own = self.load()
        values, grid = to_lps(stored.astype(np.float32), own)
        check_finite(values)
        return values, grid

    def load(self) -> tuple[npt.NDArray[Any], Grid]:
        """Read the voxels as they are stored, `(z, y, x)` in the orientation of the file."""
        try:
            with _plainly_named(self._path) as link:
                self._reader.SetFileName(link)
                return from_image(self._reader.Execute())
        except _DAMAGE:
            raise StudyError("unreadable_file", _DAMAGED) from None


@contextlib.contextmanager
def _plainly_named(path: Path) -> Iterator[str]:
    """The path, or a link to it where its name holds bytes that are no UTF-8: SimpleITK ends the process on them."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / f"volume{'.nii.gz' if path.name.lower().endswith('.gz') else path.suffix}"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield str(path)


_DAMAGE = (OSError, EOFError, RuntimeError, ArithmeticError, ValueError, struct.error, zlib.error)
"""Errors of a damaged file; their texts contain the path."""
_DAMAGED = "a volume file is missing, damaged or of another format"


def check_finite(values: FloatArray) -> None:
    """Refuse a volume with values that are not finite; `StudyError` (`unreadable_file`)."""
    if not np.isfinite(values).all():
        raise StudyError("unreadable_file", "a volume holds values that are not finite")


def _check_nrrd(path: Path) -> None:
    """Check that an NRRD file holds its own data (NRRD0005, "Detached headers"); `ValueError` if it is damaged."""
    with BoundedFile(path, _CHUNK) as stream:
        head = stream.read(_CHUNK).decode("latin-1")
    lines = re.split("\r\n|\r|\n", head)  # as the library that SimpleITK reads it with
    if not lines[0].startswith("NRRD"):
        raise ValueError("not an NRRD file")
    # The header ends at an empty line; one that has none has no data of its own.
    for line in lines[1 : [*lines, ""].index("")]:
        field, _, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, or a key and its value
            continue
        if field.lower() not in _NRRD_FIELDS:
            raise StudyError(
                "unreadable_file",
                "an NRRD header names another file as its data, or has an unknown field: save it as one file",
            )
    if "" not in lines:
        raise ValueError("a header without an end")
