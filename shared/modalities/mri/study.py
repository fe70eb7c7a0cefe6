"""Read DCE-MRI exams into arrays.

The result is float32 `(phase, z, y, x)` in LPS with spacing `(z, y, x)` in mm and times in seconds after injection; the
first phase is pre-contrast. Accepted are classic and enhanced MR images of any vendor, one exam per folder in any
nesting, and NIfTI files `<id>_0000.nii.gz`, `<id>_0001.nii.gz`, ... as MAMA-MIA stores them. Refused with a reason are
archives, files of several patients or exams, and any doubt about geometry, phases or the scale of values.
"""

from __future__ import annotations

import filecmp
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.cohort.preflight import Case
from shared.dicom.budget import check_spacing, check_volumes
from shared.dicom.enhanced import split_frames
from shared.dicom.geometry import lps_view, orientation_of
from shared.dicom.header import ENHANCED_MR_STORAGE, MR_IMAGE_STORAGE, FileHeader
from shared.dicom.index import index_folder, list_files, read_headers
from shared.dicom.pixels import read_slices
from shared.errors import StudyError
from shared.modalities.mri.dce_study import Acquisition, DceStudy
from shared.modalities.mri.nifti_phases import find_nifti_phases, read_nifti_phases
from shared.modalities.mri.phases import find_dynamic_set
from shared.modalities.mri.series import could_be_phases
from shared.types import Side

_SLOPES = 1e-3  # relative tolerance of slopes
_BESIDE = 4
"""Bytes of a voxel of the phase that is put together."""


def read_case(case: Case) -> DceStudy:
    """Read the exam of a case; raises as `read_study`."""
    if case.path is None:
        return assemble_study(read_headers(case.files), case.row.side)
    return read_study(case.path, side=case.row.side, times_s=case.row.acquisition_times_s)


def image_files(case: Case) -> tuple[Path, ...]:
    """All files of the exam, sorted."""
    files = case.files if case.path is None else find_nifti_phases(case.path) or list_files(case.path)
    return tuple(sorted(files))


def read_study(path: Path, *, side: Side | None = None, times_s: Sequence[float] | None = None) -> DceStudy:
    """Read one exam from a folder of DICOM files, or from NIfTI phases in a folder or under a prefix.

    Parameters
    ----------
    path
        Folder of one exam, or prefix `folder/<id>` of NIfTI files `<id>_0000.nii.gz`, ...
    side
        Side of the breast; a laterality tag with the other side is refused.
    times_s
        Seconds after injection of NIfTI phases, whose files cannot contain them; without them phase k is at
        `k * phases.NOMINAL_INTERVAL_S`. Ignored for DICOM.

    Raises
    ------
    StudyError
        With a reason of `errors.ExclusionReason`; the message contains neither a path nor the text of a tag.

    """
    prefix_files = find_nifti_phases(path)
    if prefix_files:
        return read_nifti_phases(prefix_files, times_s)
    return assemble_study(index_folder(path), side)


def assemble_study(headers: Sequence[FileHeader], side: Side | None) -> DceStudy:
    """Read the exam of these DICOM files; `side` and errors as in `read_study`."""
    images = _mr_images(headers)
    # A study of both breasts has tags of both sides, B, or none.
    named = {item.laterality for item in images} & {"L", "R"}
    if side is not None and len(named) == 1 and named != {side[0].upper()}:
        raise StudyError("laterality_conflict", f"the table says {side}, the images' tag the other breast")
    dynamic = find_dynamic_set(images, side)
    phases = dynamic.phases
    stored = phases[0].grid
    check_spacing(stored.spacing)
    check_volumes(math.prod(stored.shape), len(phases), _BESIDE)
    volume = np.empty(stored.shape, np.float32)
    view, grid = lps_view(volume, stored)
    turned = np.empty((len(phases), *view.shape), np.float32)
    slices = read_slices(header for phase in phases for header in phase.slices)
    slopes: list[list[float | None]] = []
    for target in turned:
        slopes.append([])
        for index in range(len(volume)):
            volume[index], slope = next(slices)
            slopes[-1].append(slope)
        target[:] = view
    _check_scales(slopes)
    first = phases[0].slices[0]
    return DceStudy(
        phases=turned,
        times_s=tuple(phase.time_s for phase in phases),
        grid=grid,
        acquisition=Acquisition(first.manufacturer, first.field_strength_t, orientation_of(stored)),
        notes=dynamic.notes,
        series_seen=dynamic.series_seen,
    )


def _check_scales(slopes: Sequence[Sequence[float | None]]) -> None:
    """Refuse phases whose values cannot be compared, by the slopes of their slices from `read_slices`.

    Slopes that differ between phases are those of a display that was set for each series.
    """
    for phase in slopes:
        for first, other in zip(slopes[0], phase, strict=True):
            alike = first is other if first is None or other is None else math.isclose(first, other, rel_tol=_SLOPES)
            if not alike:
                raise StudyError(
                    "unequal_scale",
                    "the phases' values have unlike scales (RescaleSlope, or ScaleSlope in some alone): export all "
                    "phases again, with private tags",
                )


def _mr_images(headers: Sequence[FileHeader]) -> list[FileHeader]:
    """Select the MR images of one patient and one exam, without other objects (SEG, SR, PR) and without copies.

    Enhanced objects become their frames, but for those that say themselves that they are no phases.
    """
    images = [item for item in headers if item.sop_class in {MR_IMAGE_STORAGE, *ENHANCED_MR_STORAGE}]
    if not images:
        raise StudyError("no_images", "no MR image lies at the row's path")
    if len({item.patient_id for item in images}) > 1:
        raise StudyError("several_patients", "the files at the row's path belong to more than one patient")
    if len({item.study_uid for item in images}) > 1:
        raise StudyError("several_studies", "the files at the row's path belong to more than one exam")
    if any(item.frames > 1 and item.sop_class == MR_IMAGE_STORAGE for item in images):
        raise StudyError("unreadable_file", "an MR image of several frames is not classic MR")
    # Downloads and exports may leave byte-identical copies of an instance.
    kept: dict[str, FileHeader] = {}
    for item in images:
        twin = kept.setdefault(item.sop_uid or str(item.path), item)
        if twin is not item and not filecmp.cmp(twin.path, item.path, shallow=False):
            raise StudyError("duplicate_slices", "one SOPInstanceUID stands in two files of different content")
    slices: list[FileHeader] = []
    for item in kept.values():
        if item.sop_class == MR_IMAGE_STORAGE:
            slices.append(item)
        elif could_be_phases([item]):
            slices.extend(split_frames(item))
    return slices
