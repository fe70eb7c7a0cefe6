"""What `fedbreast check` sees of a case: series, facts, what was guessed, small pictures. It holds no identifier.

It is filled while the case is read: of one that is left out it has all that was seen until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.dicom.header import FileHeader
from shared.errors import ExclusionReason
from shared.types import BoolArray, FloatArray

Fact = str | float | Sequence[float] | Sequence[str] | None
HEIGHT, WIDEST = 160, 240
"""Pixels of a panel: its height, less where it would be wider than the second."""
LESION, BOX = 1, 2
"""Values of `Panel.lines`: the reference outline, and the box that is cut out."""


@dataclass(frozen=True, slots=True)
class SeenSeries:
    """Images that lie there and belong together: how many, what they look like, and why they were not taken."""

    images: int
    what: str
    taken: bool
    why: str = ""
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A small picture: grey uint8 `(y, x)` and, of the same shape, the lines drawn on it (`LESION`, `BOX` or 0)."""

    title: str
    grey: npt.NDArray[np.uint8]
    lines: npt.NDArray[np.uint8]


@dataclass(slots=True)
class CheckedCase:
    """What was seen of a case so far.

    Attributes
    ----------
    facts
        By a name that ends with the unit, as `spacing_mm`; triples are `(z, y, x)`.
    notes
        Plain sentences on what was guessed, or is doubtful.
    identity
        Hashes of what the images say of the patient and the exam. They stay in the site's cache, and are for
        comparing rows alone.
    tissue_fault
        Why the tissue masks are of no use, where the row names some.
    reason, detail
        Why the case is left out; None for a usable one. `detail` is the sentence of the `StudyError`.

    """

    series: list[SeenSeries] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    tissue_fault: ExclusionReason | None = None
    reason: ExclusionReason | None = None
    detail: str = ""
    panels: list[Panel] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return asdict(replace(self, panels=[]))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], panels: Sequence[Panel]) -> CheckedCase:
        """Undo `to_dict`."""
        series = [SeenSeries(**item) for item in data["series"]]
        return cls(**{**data, "series": series, "panels": list(panels)})

    def identify(self, headers: Iterable[FileHeader]) -> None:
        """Note whose images these are, as hashes; nothing where they disagree or say nothing."""
        images = list(headers)
        for name, values in (
            ("patient", {item.patient_id for item in images}),
            ("exam", {item.study_uid for item in images}),
        ):
            if len(values) == 1 and (value := values.pop()):
                self.identity[name] = hashlib.sha256(value.encode()).hexdigest()


def panel(
    title: str,
    plane: FloatArray,
    spacing: tuple[float, float],
    bounds: tuple[float, float],
    *,
    lesion: BoolArray | None = None,
    box: BoolArray | None = None,
) -> Panel:
    """Draw a plane `(y, x)` small, with true proportions.

    `spacing` is in mm, `bounds` are the values that become black and white. `lesion` and `box` are masks of the same
    shape, of which the edge is drawn.
    """
    height, width = (size * step for size, step in zip(plane.shape, spacing, strict=True))
    scale = min(HEIGHT / height, WIDEST / width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    low, high = bounds
    grey = np.clip((plane - low) / max(high - low, 1e-6), 0.0, 1.0) * np.float32(255)
    lines = np.zeros(shape, np.uint8)
    for mask, value in ((box, BOX), (lesion, LESION)):
        if mask is not None:
            lines[_edge(_resized(mask.astype(np.uint8) * 255, shape) > 0)] = value
    return Panel(title, _resized(np.nan_to_num(grey).astype(np.uint8), shape), lines)


def _resized(plane: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Averaged where it gets smaller, so that a lesion of a few pixels is not lost."""
    return np.asarray(Image.fromarray(plane).resize(shape[::-1], Image.Resampling.BILINEAR), np.uint8)


def _edge(mask: BoolArray) -> BoolArray:
    """Pixels around a mask that touch it, or its own where it reaches the picture's edge."""
    padded = np.pad(mask, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    border = np.ones(mask.shape, np.bool_)
    border[1:-1, 1:-1] = False
    edge: BoolArray = (near & ~mask) | (mask & border)
    return edge
