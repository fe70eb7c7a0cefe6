"""A site's cases, found but not yet read: which rows can be taken, and why the others cannot.

Opening never stops for one bad study. What shows only in the images is raised by `Case.load_study` and
`Case.load_mask` as a `StudyError`, for the caller to count as an `Exclusion`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared.cohort.manifest import CaseRow, Flag, read_manifest_with_flags
from shared.cohort.site_folder import SiteFolder, open_site_folder, pseudonym
from shared.dicom.header import MR_IMAGE_STORAGE, FileHeader
from shared.dicom.index import Fault, list_files, scan_folder
from shared.dicom.masks import read_mask
from shared.dicom.volumes import find_nifti_phases
from shared.errors import ExclusionReason, StudyError
from shared.modalities.mri.study import read_files, read_study
from shared.types import BoolArray, DceStudy, Grid

MaskKind = Literal["mask", "breast_mask", "fibroglandular_mask"]
TISSUE_MASKS: tuple[MaskKind, ...] = ("breast_mask", "fibroglandular_mask")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A row left out and why; holds no identifier."""

    row: int
    reason: ExclusionReason


@dataclass(frozen=True, slots=True)
class Case:
    """One breast of one exam, located; `key` is its pseudonym. Paths stay out of `repr`: they may hold identifiers."""

    key: str
    row: CaseRow
    site: Path = field(repr=False)
    study_path: Path | None = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)

    def load_study(self, max_post_phases: int = 8) -> DceStudy:
        """Read the exam's images.

        Raises
        ------
        StudyError
            See `shared.modalities.mri.study.read_study`.

        """
        if self.study_path is None:
            return read_files(self.files, max_post_phases=max_post_phases, side=self.row.side)
        return read_study(
            self.study_path,
            max_post_phases=max_post_phases,
            side=self.row.side,
            times_s=self.row.acquisition_times_s,
        )

    def load_mask(self, grid: Grid, kind: MaskKind = "mask") -> BoolArray:
        """Read one of the row's masks onto the study's grid.

        Raises
        ------
        StudyError
            `no_mask`: the row names none. Others: see `shared.dicom.masks.read_mask`.

        """
        found = self.mask_path(kind)
        if found is None or not found.is_file():
            raise StudyError("no_mask", f"the row names no {kind} or its file is absent")
        segment = re.search(r"#(\d+)$", getattr(self.row, kind))
        return read_mask(found, grid, segment=int(segment[1]) if segment else None)

    def mask_path(self, kind: MaskKind = "mask") -> Path | None:
        """File of one of the row's masks, None when the row names none."""
        text: str = getattr(self.row, kind)
        return self.site / re.sub(r"#\d+$", "", text) if text else None

    def input_files(self) -> tuple[Path, ...]:
        """Every file the case is read from, sorted: images and lesion mask. For caches keyed by content."""
        if self.study_path is None:
            images: Sequence[Path] = self.files
        else:
            images = find_nifti_phases(self.study_path) or list_files(self.study_path)
        mask = self.mask_path()
        return (*sorted(images), *([mask] if mask is not None and mask.is_file() else []))


@dataclass(frozen=True, slots=True)
class Cohort:
    """A site's cases of one modality, those left out before any pixel was read, and doubtful rows."""

    folder: SiteFolder
    cases: tuple[Case, ...]
    exclusions: tuple[Exclusion, ...]
    flags: tuple[Flag, ...] = ()

    def over_policy(self, excluded: Iterable[Exclusion]) -> bool:
        """Whether, with those `excluded` later, more rows are left out than the site's own policy allows."""
        left_out = len({item.row for item in (*excluded, *self.exclusions)})
        return left_out > self.folder.policy.max_excluded_share * (len(self.cases) + len(self.exclusions))


def open_cohort(folder: Path, *, needs_mask: bool = True) -> Cohort:
    """Open a site folder and locate the MR exam of every row.

    A row with a `path` is taken at its word; rows without one are found by PatientID, and by `exam` where it is given
    (StudyDate, AccessionNumber or StudyInstanceUID), in one scan of the folder's DICOM headers.

    Raises
    ------
    SiteError
        The folder is none of a site, or its table has a fault (`TableError`).

    """
    site = open_site_folder(folder)
    rows, flags = read_manifest_with_flags(site.path)
    wanted = [row for row in rows if row.modality == "MR"]
    unplaced = [row for row in wanted if not row.path]
    headers, faults = scan_folder(site.path) if unplaced else ([], [])
    by_patient: dict[str, list[FileHeader]] = defaultdict(list)
    for header in headers:
        if header.sop_class == MR_IMAGE_STORAGE or header.modality == "MR":
            by_patient[header.patient_id].append(header)
    cases: list[Case] = []
    exclusions: list[Exclusion] = []
    for row in wanted:
        try:
            case = _locate(site, row, by_patient, faults)
            if needs_mask:
                _check_mask(case)
        except StudyError as error:
            exclusions.append(Exclusion(row.row, error.reason))
        else:
            cases.append(case)
    return Cohort(site, tuple(cases), tuple(exclusions), flags)


def tissue_fault(case: Case, grid: Grid) -> ExclusionReason | None:
    """Why masks of breast and fibroglandular tissue are of no use; None where they can be read or none is named.

    Such a case stays in every other task.
    """
    if not any(case.mask_path(kind) for kind in TISSUE_MASKS):
        return None
    try:
        for kind in TISSUE_MASKS:
            case.load_mask(grid, kind)
    except StudyError as error:
        return error.reason
    return None


def _locate(site: SiteFolder, row: CaseRow, by_patient: dict[str, list[FileHeader]], faults: Sequence[Fault]) -> Case:
    key = pseudonym(site, row)
    if row.path:
        path = site.path / row.path
        if not path.is_dir() and not find_nifti_phases(path):
            raise StudyError("no_images", "nothing lies at the row's path")
        return Case(key, row, site.path, path)
    found = [
        header
        for header in by_patient.get(row.patient_id, [])
        if not row.exam or row.exam in {header.study_date, header.accession, header.study_uid}
    ]
    if not found:
        raise StudyError("no_images", "no MR image has the row's PatientID and exam")
    if len({header.study_uid for header in found}) > 1:
        raise StudyError("several_studies", "the patient has several exams; name one in 'exam'")
    # A file that cannot be read has no PatientID: it is counted against the study in whose folder it lies.
    folders = {header.path.parent for header in found}
    for fault in faults:
        if fault.path.parent in folders:
            raise fault.error
    return Case(key, row, site.path, None, tuple(header.path for header in found))


def _check_mask(case: Case) -> None:
    found = case.mask_path()
    if found is None or not found.is_file():
        raise StudyError("no_mask", "the task needs a lesion mask and the row names none, or its file is absent")
