"""Every error a user can meet, as one tree.

    FedBreastError
    ├── ConfigError          a configuration or command that cannot be meant             exit 2
    ├── SiteError            a site folder that cannot be used as a whole                exit 2
    │   └── TableError       cases.csv: file, row, column                                exit 2
    ├── StudyError           one study that is not sound: left out, counted, not fatal
    ├── UpdateError          a site's reply that must not be averaged: rejected, ledgered
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
    "no_mask",  # the row names no mask and the task needs one
    "unreadable_mask",  # the mask is no DICOM SEG or NIfTI we can read
    "mask_mismatch",  # mask and images differ in shape or position
    "empty_mask",  # a lesion case whose mask has no voxel
    "no_breast_found",  # the automatic crop found no breast, or not the lesion's breast
    "preprocessing_failed",  # anything else: the site's own log has the detail
]
EXCLUSION_REASONS: tuple[str, ...] = get_args(ExclusionReason)

_A_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:[A-Za-z]:)?[/\\]\S")
LONGEST_ERROR = 400


class FedBreastError(Exception):
    """Root of the project's errors; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(FedBreastError):
    """A configuration or command line that cannot be meant."""

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
    """One study that is not sound; the run goes on without it and counts it under `reason`."""

    def __init__(self, reason: ExclusionReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: ExclusionReason = reason
        self.detail = detail


class UpdateError(FedBreastError):
    """A site's reply that must not enter the average."""


class RunError(FedBreastError):
    """A run that could not finish."""


def safe_error(error: Exception) -> str:
    """What a site may say of a failure: our own messages hold no data; of any other error only the class.

    A message of ours that names a path is kept back all the same: hospitals name folders as they please.
    """
    if not isinstance(error, FedBreastError):
        return type(error).__name__
    if _A_PATH.search(str(error)):
        return f"{type(error).__name__}: its message names a path, see the site's own log"
    return f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
