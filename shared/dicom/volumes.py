"""NIfTI and NRRD volumes through SimpleITK, turned into LPS; NIfTI phases as an exam.

Other formats SimpleITK knows are refused: of a truncated or damaged MetaImage it returns voxels that were never read.
The same holds for NIfTI, so its header and length are checked here first.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from shared.dicom.geometry import from_image, orientation_of, to_lps
from shared.errors import StudyError
from shared.modalities.mri.phases import NOMINAL_INTERVAL_S
from shared.types import Acquisition, DceStudy, FloatArray, Grid

_MAX_VOXELS = 2**29
_PHASE_NAME = re.compile(r"^(?P<name>.+)_(?P<phase>\d{4})\.nii(\.gz)?$", re.IGNORECASE)
_FEWEST = 2
_DIMENSIONS = 3
_NIFTI_HEADER = 348
_CHUNK = 2**20
_IDENTITY_ROWS = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def read_volume(path: Path) -> tuple[FloatArray, Grid]:
    """One NIfTI or NRRD volume, float32 `(z, y, x)` in LPS.

    Raises
    ------
    StudyError
        `unreadable_file`: of another format, damaged, truncated, not 3D, not finite or too large. `no_pixel_spacing`:
        a NIfTI header without an affine, or with the identity that tools write when they do not know it (never taken
        for 1 mm).

    """
    return to_lps(*_read_stored(path))


def _read_stored(path: Path) -> tuple[FloatArray, Grid]:
    """As `read_volume`, in the file's own orientation."""
    name = path.name.lower()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings quote the path
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
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error):  # their texts quote the path
        raise StudyError("unreadable_file", "a volume file is missing, damaged or of another format") from None
    stored, grid = from_image(image)
    values = stored.astype(np.float32)
    if values.ndim != _DIMENSIONS or not np.isfinite(values).all():
        raise StudyError("unreadable_file", "a volume holds colours, or values that are not finite")
    return values, grid


def _check_nifti(path: Path) -> None:
    """Check a NIfTI-1 file's mark, length and affine (nifti1.h); raises `ValueError` and others for a damaged one."""
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
        # To the end, so that gzip compares its checksum; no further than the header promises, lest it be a bomb.
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


def find_nifti_phases(path: Path) -> list[Path]:
    """Files `<name>_0000.nii.gz`, `<name>_0001.nii.gz`, ... in order, for a folder or a prefix; empty without any.

    Raises
    ------
    StudyError
        `several_studies`: a folder with the phases of more than one exam. `missing_phase`: a number is left out.

    """
    folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        return []
    found: dict[str, dict[int, Path]] = {}
    for item in sorted(folder.iterdir()):
        match = _PHASE_NAME.match(item.name)
        if match and item.is_file() and wanted in (None, match["name"]):
            found.setdefault(match["name"], {})[int(match["phase"])] = item
    if len(found) > 1:
        raise StudyError("several_studies", f"a folder holds the NIfTI phases of {len(found)} exams; name one prefix")
    for phases in found.values():
        if sorted(phases) != list(range(len(phases))):
            raise StudyError("missing_phase", f"NIfTI phases {sorted(phases)} are not numbered from 0 without a gap")
        return [phases[number] for number in sorted(phases)]
    return []


def read_nifti_phases(
    files: Sequence[Path], *, max_post_phases: int = 8, times_s: Sequence[float] | None = None
) -> DceStudy:
    """Exam of NIfTI phases, the first pre-contrast; see `study.read_study`."""
    if len(files) < _FEWEST:
        raise StudyError("missing_phase", "a pre-contrast and a post-contrast phase are needed, one was found")
    used = list(files[: 1 + max_post_phases])
    stored = [_read_stored(path) for path in used]
    plane = orientation_of(stored[0][1])
    volumes = [to_lps(array, grid) for array, grid in stored]
    grid = volumes[0][1]
    if not all(grid.same_space(other) for _, other in volumes):
        raise StudyError("mixed_geometry", "the NIfTI phases differ in shape, spacing, direction or position")
    return DceStudy(
        phases=np.stack([array for array, _ in volumes]),
        times_s=_times(len(files), times_s)[: len(used)],
        grid=grid,
        acquisition=Acquisition(orientation=plane),
    )


def _times(count: int, given: Sequence[float] | None) -> tuple[float, ...]:
    """Given times shifted so that the pre-contrast phase is not after injection, or nominal ones."""
    if given is None:
        return tuple(index * NOMINAL_INTERVAL_S for index in range(count))
    if len(given) != count or any(later <= sooner for sooner, later in itertools.pairwise(given)):
        raise StudyError("missing_phase", f"acquisition_times needs {count} rising numbers, one a phase, s")
    shift = max(given[0], 0.0)
    return tuple(float(value) - shift for value in given)
