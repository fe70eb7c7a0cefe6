"""What `fedbreast check` reads of an exam of MRI: all that `prepare` reads, and the same breast cut out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from shared.cohort.preflight import TISSUE_MASKS, Case
from shared.dicom.header import ENHANCED_MR_STORAGE, MR_IMAGE_STORAGE, FileHeader
from shared.dicom.index import read_header
from shared.errors import StudyError
from shared.modalities.checked_case import CheckedCase, SeenSeries, panel
from shared.modalities.mri.dce_study import DceStudy
from shared.modalities.mri.nifti_phases import find_nifti_phases
from shared.modalities.mri.phases import MOST_POST_PHASES, find_dynamic_set
from shared.modalities.mri.plan import Extraction
from shared.modalities.mri.region import BreastRegion, extract_region
from shared.modalities.mri.series import could_be_phases
from shared.modalities.mri.settings import MriSettings
from shared.modalities.mri.study import _mr_images, image_files, read_case
from shared.modalities.mri.tissues import tissue_fault
from shared.types import BoolArray, FloatArray, Side

_QUICK = Extraction.of(MriSettings(n4=False))
"""The bias field takes seconds, and nothing fails by it."""
_KNOWN_SEQUENCES = frozenset({"SE", "IR", "GR", "EP", "RM"})  # PS3.3 C.8.3.1; other words might be anybody's
_IMAGES = frozenset({MR_IMAGE_STORAGE, *ENHANCED_MR_STORAGE})
_PARTS = {"SEG": "segmentation", "SR": "report", "PR": "presentation state", "KO": "key images"}


def check(case: Case, seen: CheckedCase) -> None:
    """Read the images and masks of a case and find its breast, as `prepare` does.

    Without a lesion's mask it is of use to tasks of tissues alone: then their masks must be there and right.
    """
    _see_files(case, seen)
    of_tissues = not case.row.mask and all(case.mask_path(kind) for kind in TISSUE_MASKS)
    if not of_tissues:
        case.need_mask()
    study = read_case(case)
    _see_study(study, seen)
    _draw(study, None, None, seen)
    lesion = None if of_tissues else case.load_mask(study.grid)
    if lesion is not None:
        seen.facts["lesion_ml"] = round(float(lesion.sum()) * study.grid.voxel_volume_ml, 3)
        _draw(study, lesion, None, seen)
    region = extract_region(study, lesion, case.row.side, _QUICK)
    seen.facts["breast_box_mm"] = tuple(round(side, 1) for side in region.size_mm)
    _draw(study, lesion, region, seen)
    region.need_lesion()
    seen.tissue_fault = tissue_fault(case, study.grid, region.window)
    if of_tissues and seen.tissue_fault:
        raise StudyError(seen.tissue_fault, "a mask of tissues cannot be used, and the row names none of the lesion")


def _see_study(study: DceStudy, seen: CheckedCase) -> None:
    seen.facts |= {
        "phases_s": tuple(round(time, 1) for time in study.times_s),
        "voxels": tuple(study.grid.shape),
        "spacing_mm": tuple(round(step, 3) for step in study.grid.spacing),
        "plane": study.acquisition.orientation,
        "vendor": study.acquisition.manufacturer,
        "field_strength_t": study.acquisition.field_strength_t,
    }
    seen.notes += study.notes


def _see_files(case: Case, seen: CheckedCase) -> None:
    """Note which series lie there and which are taken; a fault of a file is the reader's to raise."""
    headers = []
    files = image_files(case)
    if case.path is not None and find_nifti_phases(case.path):
        taken = len(files[: 1 + MOST_POST_PHASES])
        seen.series = [SeenSeries(taken, "NIfTI phases", taken=True)]
        if beyond := len(files) - taken:
            seen.series.append(SeenSeries(beyond, "NIfTI phases", taken=False, why=_MORE))
        return
    for path in files:
        try:
            header = read_header(path)
        except StudyError:
            continue
        headers += [header] if header is not None else []
    seen.identify(item for item in headers if item.sop_class in _IMAGES)
    seen.series = series_of(headers, case.row.side)


_MORE = f"more phases than the {1 + MOST_POST_PHASES} that are read, or before the last one without contrast"


def series_of(headers: Sequence[FileHeader], side: Side | None) -> list[SeenSeries]:
    """The series of an exam by their number, and why those that give no phase are not taken."""
    by_series: dict[tuple[str, bool], list[FileHeader]] = defaultdict(list)
    images = [item for item in headers if item.sop_class in _IMAGES]
    try:
        dynamic = find_dynamic_set(_mr_images(headers), side)
        phases, why_not = dynamic.phases, {item.uid: item.why for item in dynamic.series_seen}
    except StudyError:
        phases, why_not = (), {}
    taken = {item.path for phase in phases for item in phase.slices}
    possible = {item.path for item in could_be_phases(images)}
    for item in headers:
        by_series[item.series_uid, item.path in taken].append(item)
    series = []
    for (_, own), items in by_series.items():
        why = "" if own else _why(items[0], why_not, possible)
        series.append(SeenSeries(len(items), _look(items[0]), own, why, items[0].series_number))
    return sorted(series, key=lambda item: (item.number is None, item.number or 0, not item.taken))


def _look(item: FileHeader) -> str:
    """Sequence and matrix in words of ours; what a tag says otherwise is not repeated."""
    if item.sop_class not in _IMAGES:
        return _PARTS.get(item.modality, "other object")
    words = [" ".join(part for part in item.sequence.split("\\") if part in _KNOWN_SEQUENCES)]
    words += [f"TR {item.repetition_ms:.3g} ms"] if item.repetition_ms is not None else []
    words += [f"TE {item.echo_ms:.3g} ms"] if item.echo_ms is not None else []
    words += [f"flip {item.flip_deg:.3g}°"] if item.flip_deg is not None else []
    return ", ".join(filter(None, [*words, f"{item.rows} x {item.columns}"]))


def _why(item: FileHeader, why_not: Mapping[str, str], possible: Collection[object]) -> str:
    """Why images were not taken as phases; `why_not` is the reader's reason by series, empty where it found no set."""
    if item.sop_class not in _IMAGES:
        return "no MR image"
    if item.path not in possible:
        return "computed images, or another contrast (localiser, diffusion, fat)"
    return why_not.get(item.series_uid) or (_MORE if why_not else "no set of phases was found")


def _draw(study: DceStudy, lesion: BoolArray | None, region: BreastRegion | None, seen: CheckedCase) -> None:
    """The axial slice with most of the lesion, else the middle one: before contrast, first uptake, the breast's box."""
    if lesion is not None and lesion.shape == study.grid.shape and lesion.any():
        z = int(lesion.sum(axis=(1, 2)).argmax())
    else:
        lesion = None
        z = study.grid.shape[0] // 2 if region is None else region.start[0] + region.breast.shape[0] // 2
    spacing = study.grid.spacing[1:]
    before, uptake = study.phases[0, z], study.phases[1, z] - study.phases[0, z]
    outline = None if lesion is None else lesion[z]
    box = None
    if region is not None:
        box = np.zeros(before.shape, np.bool_)
        box[region.window[1:]] = True
    shades = _shades(before, 1.0), (0.0, _shades(uptake, 1.0)[1])
    seen.panels = [
        panel("before contrast", before, spacing, shades[0], box=box),
        panel("first uptake", uptake, spacing, shades[1], box=box),
    ]
    if region is None:
        seen.panels.append(panel("outline", uptake, spacing, shades[1], lesion=outline))
        return
    part = region.window[1:]
    drawn = None if outline is None else outline[part]
    seen.panels.append(panel("outline, the breast alone", uptake[part], spacing, shades[1], lesion=drawn))


def _shades(plane: FloatArray, share: float) -> tuple[float, float]:
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [share, 100 - share / 2]) if finite.size else (0.0, 1.0)
    return float(low), float(high)
