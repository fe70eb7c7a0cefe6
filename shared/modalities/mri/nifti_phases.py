"""Read an exam of NIfTI phases `<name>_0000.nii.gz`, `<name>_0001.nii.gz`, ..., as MAMA-MIA stores them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.dicom.budget import check_spacing, check_volumes
from shared.dicom.geometry import lps_view, orientation_of
from shared.dicom.volumes import Volume, check_finite
from shared.errors import StudyError
from shared.modalities.mri.dce_study import Acquisition, DceStudy
from shared.modalities.mri.looks import last_before_injection, look_of, some_of
from shared.modalities.mri.order import NOMINAL_INTERVAL_S, choose_times
from shared.modalities.mri.phases import MOST_POST_PHASES, nearly_one_place
from shared.types import FloatArray, Grid

_PHASE_NAME = re.compile(r"^(?P<name>.+)_(?P<phase>\d{4})\.nii(\.gz)?$", re.IGNORECASE)
_FEWEST = 2
_UNLIKE = "the NIfTI phases differ in shape, spacing, direction or position"


def find_nifti_phases(path: Path) -> list[Path]:
    """Find the files `<name>_0000.nii.gz`, `<name>_0001.nii.gz`, ... of a folder or a prefix, in order.

    Raises `StudyError`: `several_studies` in a folder with more than one exam; `missing_phase` if a number is missing.
    """
    folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        return []
    exams: dict[str, dict[int, Path]] = {}
    for item in sorted(folder.iterdir()):
        match = _PHASE_NAME.match(item.name)
        if match and item.is_file() and wanted in (None, match["name"]):
            exams.setdefault(match["name"], {})[int(match["phase"])] = item
    if len(exams) > 1:
        raise StudyError("several_studies", f"a folder holds the NIfTI phases of {len(exams)} exams; name one prefix")
    for phases in exams.values():
        if sorted(phases) != list(range(len(phases))):
            raise StudyError("missing_phase", f"NIfTI phases {sorted(phases)} are not numbered from 0 without a gap")
        return [phases[number] for number in sorted(phases)]
    return []


def read_nifti_phases(files: Sequence[Path], times_s: Sequence[float] | None) -> DceStudy:
    """Read an exam of NIfTI phases, the first pre-contrast; see `study.read_study`."""
    if len(files) < _FEWEST:
        raise StudyError(
            "missing_phase", "a pre-contrast and a post-contrast phase are needed, and there is only one phase"
        )
    times = _times(len(files), times_s)
    pre = max(index for index, time in enumerate(times) if index == 0 or time <= 0.0)
    if pre + 1 == len(files):
        raise StudyError("missing_phase", "by acquisition_times no phase is after the injection")
    later = choose_times(times[pre + 1 :], MOST_POST_PHASES)
    chosen = [pre, *(pre + 1 + index for index in later)]
    volumes = [Volume(files[index]) for index in chosen]
    if len({volume.shape for volume in volumes}) > 1:
        raise StudyError("mixed_geometry", _UNLIKE)
    check_volumes(math.prod(volumes[0].shape), len(volumes), max(volume.beside for volume in volumes))
    grids: list[Grid] = []
    for number, volume in enumerate(volumes):
        stored, own = volume.load()
        turned, grid = lps_view(stored, own)
        if not number:
            check_spacing(grid.spacing)
            phases = np.empty((len(volumes), *turned.shape), np.float32)
        elif grids[0].shape != grid.shape or not nearly_one_place(grids[0], grid):
            raise StudyError("mixed_geometry", _UNLIKE)
        grids.append(grid)
        phases[number] = turned
        check_finite(phases[number])
        del stored, turned  # before the next one is read
    return DceStudy(
        phases=phases,
        times_s=tuple(times[index] for index in chosen),
        grid=grids[0],
        acquisition=Acquisition(orientation=orientation_of(own)),
        notes=_notes(phases, grids[0], timed=times_s is not None),
    )


def _notes(phases: FloatArray, grid: Grid, *, timed: bool) -> tuple[str, ...]:
    notes = []
    if not timed:
        notes.append(f"No tag tells when the phases were taken: they count as {NOMINAL_INTERVAL_S:g} s apart.")
    some = some_of(grid.shape[0])
    if seen := last_before_injection([look_of(phase[some], grid.spacing[1:]) for phase in phases]):
        notes.append(f"The first phase counts as pre-contrast, but the tissue brightens after phase {seen + 1}.")
    return tuple(notes)


def _times(count: int, given: Sequence[float] | None) -> tuple[float, ...]:
    """Given times, shifted so that the pre-contrast phase is not after injection; nominal times if none are given."""
    if given is None:
        return tuple(index * NOMINAL_INTERVAL_S for index in range(count))
    if len(given) != count or any(later <= sooner for sooner, later in itertools.pairwise(given)):
        raise StudyError("missing_phase", f"acquisition_times needs {count} rising numbers, one per phase, s")
    shift = max(given[0], 0.0)
    return tuple(float(value) - shift for value in given)
