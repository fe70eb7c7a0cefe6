"""All errors that a user can meet, as a tree.

    FedBreastError
    ├── ConfigError          a configuration or command that makes no sense              exit 2
    ├── SiteError            a site folder that cannot be used as a whole                exit 2
    │   └── TableError       cases.csv: file, row, column                                exit 2
    ├── StudyError           one study that cannot be used: excluded and counted, not fatal
    ├── UpdateError          a site's reply that must not be aggregated: rejected and recorded
    └── RunError             a run that could not finish                                 exit 1

A message says what is wrong, where (file, row, key), why it matters and the remedy. It never holds a patient identifier
or free text from data: rows are named by number, studies by a reason of the closed list `EXCLUSION_REASONS`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

ExclusionReason = Literal[
    "no_images",  # nothing readable at the row's path
    "unreadable_file",  # truncated, empty, not DICOM
    "no_pixel_spacing",  # missing or zero: never assumed to be 1 mm
    "mixed_geometry",  # phases or slices of different shape, spacing or orientation
    "missing_slices",  # a gap between slice positions
    "duplicate_slices",  # two different images at one position of one phase
    "missing_phase",  # no pre-contrast or not enough post-contrast phases
    "several_studies",  # files of more than one exam at one path
    "several_patients",  # files of more than one patient at one path
    "laterality_conflict",  # the tag and the table name different breasts
    "no_mask",  # the row names no mask, but the task needs one
    "unreadable_mask",  # the mask is no readable DICOM SEG, NIfTI or NRRD
    "mask_mismatch",  # mask and images differ in shape or position
    "empty_mask",  # the mask has no voxels
    "no_breast_found",  # no breast was detected, or not the breast with the lesion
    "preprocessing_failed",  # anything else: the site's own log has the details
]
EXCLUSION_REASONS: tuple[str, ...] = get_args(ExclusionReason)

_A_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:[A-Za-z]:)?[/\\]\S")
LONGEST_ERROR = 400


class FedBreastError(Exception):
    """Root of the project's errors; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(FedBreastError):
    """A configuration or command line that makes no sense."""

    exit_code = 2


class SiteError(FedBreastError):
    """A site folder that cannot be used as a whole."""

    exit_code = 2


class TableError(SiteError):
    """A fault in a table, located by file name, row (1 = the header) and column."""

    def __init__(self, message: str, *, file: str, row: int | None = None, column: str | None = None) -> None:
        where = file + (f", row {row}" if row is not None else "") + (f", column '{column}'" if column else "")
        super().__init__(f"{where}: {message}")
        self.file, self.row, self.column = file, row, column


class StudyError(FedBreastError):
    """One study that cannot be used; the run continues without it and counts it under `reason`."""

    def __init__(self, reason: ExclusionReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: ExclusionReason = reason
        self.detail = detail


class UpdateError(FedBreastError):
    """A site's reply that must not be aggregated."""


class RunError(FedBreastError):
    """A run that could not finish."""


def safe_error(error: Exception) -> str:
    """Text of an error that may leave a site: our own messages contain no data; of other errors only the class.

    A message of ours with a path is withheld too, because hospitals may name folders after patients.
    """
    if not isinstance(error, FedBreastError):
        return type(error).__name__
    if _A_PATH.search(str(error)):
        return f"{type(error).__name__}: its message names a path, see the site's own log"
    return f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
