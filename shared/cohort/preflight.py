"""A site's cases, found but not yet read: which rows can be taken, and why the others cannot.

Opening never stops for one bad study. What shows only in the images is raised by the modality that reads them and by
`Case.load_mask` as a `StudyError`, for the caller to count as an `Exclusion`.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared.cohort.exam_dates import possible_dates
from shared.cohort.labels import Label
from shared.cohort.manifest import CaseRow, Flag, read_manifest_with_flags
from shared.cohort.refused_cells import keeping_the_cell
from shared.cohort.site_folder import SiteFolder, open_site_folder, pseudonym
from shared.dicom.header import FileHeader
from shared.dicom.index import Fault, list_files, scan_folder
from shared.dicom.label_map import Choice, split_choice
from shared.dicom.masks import read_mask
from shared.errors import ExclusionReason, StudyError
from shared.types import BoolArray, Grid

MaskKind = Literal["mask", "breast_mask", "fibroglandular_mask"]
TISSUE_MASKS: tuple[MaskKind, ...] = ("breast_mask", "fibroglandular_mask")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A row left out and why; holds no identifier."""

    row: int
    reason: ExclusionReason


@dataclass(frozen=True, slots=True)
class Case:
    """One breast of one exam, located; `key` is its pseudonym. Paths stay out of `repr`: they may hold identifiers.

    Paths of the row are relative to `site`. Its images lie at the row's `path`; where the row names none, they are the
    `files` that a scan of the folder gave.
    """

    key: str
    modality: str
    row: CaseRow
    site: Path = field(repr=False)
    path: Path | None = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)

    def load_mask(self, grid: Grid, kind: MaskKind = "mask") -> BoolArray:
        """Read one of the row's masks onto the study's grid; raises as `need_mask` and `masks.read_mask`."""
        return read_mask(self.need_mask(kind), grid, choice=self.mask_choice(kind))

    def need_mask(self, kind: MaskKind = "mask") -> Path:
        """File of one of the row's masks, not read; `StudyError` (`no_mask`) if there is none or its file is absent."""
        path = self.mask_path(kind)
        if path is None or not path.is_file():
            raise StudyError("no_mask", f"the row names no {kind} or its file is absent")
        return path

    def mask_path(self, kind: MaskKind = "mask") -> Path | None:
        """File of one of the row's masks, None when the row names none."""
        text: str = getattr(self.row, kind)
        return self.site / split_choice(text)[0] if text else None

    def mask_choice(self, kind: MaskKind = "mask") -> Choice:
        """Labels of the mask that the row chooses."""
        return split_choice(getattr(self.row, kind))[1]

    def mask_files(self, kind: MaskKind = "mask") -> list[Path]:
        """Files that the row's cell of a mask stands for: one, a folder's, or a file or folder for each `{view}`."""
        path = self.mask_path(kind)
        if path is None or path.is_file():
            return [path] if path else []
        name = glob.escape(path.name).replace("{view}", "*")
        entries = path.iterdir() if path.is_dir() else path.parent.glob(name)
        return sorted(item for entry in entries for item in (list_files(entry) if entry.is_dir() else [entry]))


Located = tuple[list[Case], list[Exclusion]]
"""Cases of one modality, and the rows of it that are none."""
Locate = Callable[[SiteFolder, Sequence[CaseRow], frozenset[str]], Located]
"""A modality's way from a table's rows to its cases; last the masks that they must come with (`Task.needs`)."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """A site's cases, those left out before any pixel was read, doubtful rows, and rows of modalities not asked for.

    `rows` are all of the table.
    """

    folder: SiteFolder
    cases: tuple[Case, ...]
    exclusions: tuple[Exclusion, ...]
    flags: tuple[Flag, ...] = ()
    others: tuple[int, ...] = ()
    rows: tuple[CaseRow, ...] = field(default=(), repr=False)

    def share_left_out(self, excluded: Iterable[Exclusion]) -> float:
        """Share of the rows that are left out, with those `excluded` later."""
        rows = len(self.cases) + len(self.exclusions)
        return len({item.row for item in (*excluded, *self.exclusions)}) / rows if rows else 0.0


def open_cohort(folder: Path, wanted: Iterable[tuple[Locate, frozenset[str]]], labels: Sequence[Label] = ()) -> Cohort:
    """Open a site folder and locate its cases.

    `wanted` says of each modality how its cases are located, and the masks that they must come with; `labels` are what
    the tasks learn from. A folder that is none of a site raises `SiteError`, a fault of its table `TableError`.
    """
    site = open_site_folder(folder)
    with keeping_the_cell(site.path):
        rows, flags = read_manifest_with_flags(site.path, site.images, labels)
    located = [locate(site, rows, needs) for locate, needs in wanted]
    cases = tuple(case for found, _ in located for case in found)
    exclusions = tuple(item for _, left_out in located for item in left_out)
    known = {case.row.row for case in cases} | {item.row for item in exclusions}
    others = tuple(row.row for row in rows if row.row not in known)
    return Cohort(site, cases, exclusions, flags, others, rows)


def locate_exams(
    site: SiteFolder,
    rows: Sequence[CaseRow],
    needs: frozenset[str],
    *,
    modality: str,
    is_image: Callable[[FileHeader], bool],
    lies_at: Callable[[Path], bool],
) -> Located:
    """One case per row: a row with a `path` is taken at its word, the others are found by their tags.

    That is by PatientID, and by `exam` where it is given (StudyDate, AccessionNumber or StudyInstanceUID), in one scan
    of the folder's DICOM headers. With `lesion` in `needs`, a case without a lesion mask is left out.

    `rows` are those of the modality of this name. `is_image` says whether a DICOM file is an image of the modality, and
    `lies_at` whether a path that is no folder stands for images, as a prefix of files may.
    """
    headers, faults = scan_folder(site.images) if any(not row.path for row in rows) else ([], [])
    by_patient: dict[str, list[FileHeader]] = defaultdict(list)
    for header in headers:
        if is_image(header):
            by_patient[header.patient_id].append(header)
    cases: list[Case] = []
    exclusions: list[Exclusion] = []
    for row in rows:
        key = pseudonym(site, row)
        try:
            if not row.path:
                files = _files_of(row, by_patient, faults)
                case = Case(key, modality, row, site.images, None, files)
            elif (site.images / row.path).is_dir() or lies_at(site.images / row.path):
                case = Case(key, modality, row, site.images, site.images / row.path)
            else:
                raise StudyError("no_images", "nothing lies at the row's path")
            if "lesion" in needs:
                case.need_mask()
        except StudyError as error:
            exclusions.append(Exclusion(row.row, error.reason))
        else:
            cases.append(case)
    return cases, exclusions


def _files_of(row: CaseRow, by_patient: dict[str, list[FileHeader]], faults: Sequence[Fault]) -> tuple[Path, ...]:
    days = possible_dates(row.exam)
    own = [
        header
        for header in by_patient.get(row.patient_id, [])
        if not row.exam or row.exam in {header.accession, header.study_uid} or header.study_date in {row.exam, *days}
    ]
    if not own:
        raise StudyError("no_images", "no image of the modality has the row's PatientID and exam")
    if len({header.study_uid for header in own}) > 1:
        raise StudyError("several_studies", "the patient has several exams; name one in 'exam'")
    # A file that cannot be read has no PatientID: it is counted against the study in whose folder it lies.
    folders = {header.path.parent for header in own}
    for fault in faults:
        if fault.path.parent in folders:
            raise fault.error
    return tuple(header.path for header in own)
