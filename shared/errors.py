"""All errors that a user can meet, as a tree.

    FedBreastError
    ├── ConfigError          a configuration or command that makes no sense              exit 2
    ├── SiteError            a site folder that cannot be used as a whole                exit 2
    │   └── TableError       cases.csv: file, row, column                                exit 2
    ├── StudyError           one study that cannot be used: excluded and counted, not fatal
    ├── UpdateError          a site's reply that must not be aggregated: rejected and recorded
    └── RunError             a run that could not finish                                 exit 1

What ended, and is not whole, exits with 3: a run that missed somebody, a site folder of which some case is left out; a
site folder without any usable case with 4.

A message says what is wrong, where (file, row, key), why it matters and the remedy. It never holds a patient identifier
or free text from data: rows are named by number, studies by a reason of the closed list `EXCLUSION_REASONS`. Words from
outside in it hold no control characters (`shared.words`). What of an error may leave a site is told by `safe_error`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from shared.words import plain

ExclusionReason = Literal[
    "no_images",  # nothing readable at the row's path
    "unreadable_file",  # truncated, empty, not DICOM
    "no_pixel_spacing",  # missing or zero: never assumed to be 1 mm
    "mixed_geometry",  # phases or slices of different shape, spacing or orientation
    "unequal_scale",  # phases whose values cannot be compared: unlike slopes, of a display
    "missing_slices",  # a gap between slice positions
    "duplicate_slices",  # two different images at one position of one phase
    "missing_phase",  # no pre-contrast or not enough post-contrast phases
    "unclear_phases",  # volumes of one moment, of several kinds, or in an order that tags contradict
    "several_studies",  # files of more than one exam at one path
    "several_patients",  # files of more than one patient at one path
    "laterality_conflict",  # the tag and the table name different breasts
    "no_mask",  # the row names no mask, but the task needs one
    "unreadable_mask",  # the mask is no readable DICOM SEG, NIfTI or NRRD
    "mask_mismatch",  # mask and images differ in shape or position
    "empty_mask",  # the mask has no voxels
    "no_laterality",  # of mammography: no tag, or tags that contradict each other, name the breast
    "no_view",  # the same of the view
    "other_view",  # neither CC nor MLO
    "magnified_view",  # a part of the breast, magnified
    "spot_view",  # a part of the breast, compressed by itself
    "implant_displaced",  # the breast without its implant, which was pushed back
    "tomosynthesis",  # slices, slabs or projections
    "contrast_view",  # a subtraction or high-energy image
    "blank_image",  # all black, or of one grey
    "unclear_background",  # no air is seen by which the photometric tag could be checked
    "no_breast_found",  # no breast was detected, or not the breast with the lesion
    "too_few_changed",  # of the patients fewer came or went than the site's policy lets a difference show
    "preprocessing_failed",  # anything else: the site's own log has the details
]
EXCLUSION_REASONS: tuple[str, ...] = get_args(ExclusionReason)

_A_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:[A-Za-z]:)?[/\\]\S")
LONGEST_ERROR = 400


class FedBreastError(Exception):
    """Root of the project's errors; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(plain(message, keep="\n"))

    @property
    def told(self) -> str:
        """What may leave a site of the message: all, unless it names a path, as folders may be named after patients."""
        text = str(self)
        return "its message names a path, see the site's own log" if _A_PATH.search(text) else text


class ConfigError(FedBreastError):
    """A configuration or command line that makes no sense."""

    exit_code = 2


class SiteError(FedBreastError):
    """A site folder that cannot be used as a whole; its message may quote `site.toml`, and stays at the site."""

    exit_code = 2

    @property
    def told(self) -> str:
        """What may leave a site: where it is told in full."""
        return "`fedbreast check` at the site says what is wrong"


class TableError(SiteError):
    """A fault in a table, located by file name, row (1 = the header) and column; or several, told at once.

    Of several, `faults` are each for itself; row and column are those of the first.
    `column` is a name of the code's, never one that only the table has: in a table without a header it would be a cell.
    `cell` is what stands there. It is in no message and no `repr`: it goes to `shared.cohort.refused_cells` alone.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str,
        row: int | None = None,
        column: str | None = None,
        cell: str = "",
        faults: Sequence[TableError] = (),
    ) -> None:
        place = (f"row {row}" if row is not None else "", f"column '{column}'" if column else "")
        self.where = ", ".join(filter(None, place)) + (f" and {len(faults) - 1} more faults" if faults else "")
        self.faults = tuple(faults)
        super().__init__(f"{', '.join(filter(None, (file, self.where)))}: {message}")
        self.message, self.file, self.row, self.column, self.cell = message, file, row, column, cell

    @property
    def told(self) -> str:
        """What may leave a site: row and column."""
        return f"{self.where or 'the table'}: {super().told}"


class StudyError(FedBreastError):
    """One study that cannot be used; the run continues without it and counts it under `reason`."""

    def __init__(self, reason: ExclusionReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: ExclusionReason = reason
        self.detail = detail

    @property
    def told(self) -> str:
        """What may leave a site: the reason, a word of the closed list."""
        return self.reason


class UpdateError(FedBreastError):
    """A site's reply that must not be aggregated."""


class RunError(FedBreastError):
    """A run that could not finish."""


def safe_error(error: Exception) -> str:
    """What of an error may leave a site: its class and, of our own, what it tells (`FedBreastError.told`).

    Of a site's table these are row and column, of other faults of its folder nothing. This is the only way out:
    replies, logs and the audit log hold what it gives.
    """
    if not isinstance(error, FedBreastError):
        return type(error).__name__
    return plain(f"{type(error).__name__}: {error.told}")[:LONGEST_ERROR]
