"""A DCE-MRI exam in memory, from the DICOM reader or from the phantom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.types import FloatArray, Grid


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a study was acquired, for stratified reports; contains neither identifiers nor free text."""

    manufacturer: str = "unknown"
    field_strength_t: float | None = None
    orientation: Literal["axial", "sagittal", "coronal", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class SeriesSeen:
    """One series of an exam: its number, its images, whether phases come from it, and if not, why."""

    uid: str = field(repr=False)
    number: int | None
    images: int
    taken: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class DceStudy:
    """One DCE-MRI exam: a pre-contrast phase and at least one post-contrast phase on one grid.

    Attributes
    ----------
    phases
        float32 `(phase, z, y, x)` in stored units after rescale; the first is pre-contrast, the others follow in time.
    times_s
        Seconds after injection of each phase; the pre-contrast phase has a value <= 0.
    notes
        Plain sentences on what was guessed or is doubtful, without identifiers.
    series_seen
        All series of a DICOM exam.

    """

    phases: FloatArray
    times_s: tuple[float, ...]
    grid: Grid
    acquisition: Acquisition = field(default_factory=Acquisition)
    notes: tuple[str, ...] = ()
    series_seen: tuple[SeriesSeen, ...] = ()
