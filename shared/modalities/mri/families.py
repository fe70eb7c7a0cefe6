"""Families of volumes: one sequence, one grid, one breast. The dynamic set is one of them.

ScanOptions and SequenceVariant are of the sequence: with and without fat suppression are two. A series on a finer
matrix or in another plane is a family of its own, and does not cost the exam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.dicom.header import FileHeader
from shared.errors import StudyError
from shared.modalities.mri.series import Volume, earliest
from shared.types import Side

_TOLERANCE = 0.05  # relative tolerance of TR, TE and flip angle within a dynamic set
_SPACING_TOLERANCE = 0.02
_STEP_TOLERANCE = 0.25  # relative, of the distance between slices
_DIRECTION_TOLERANCE = 2e-3
_FEWEST = 2
_MOSTLY = 0.7  # component along x of the normal of a sagittal slab
_GAP, _GAP_MM = 2.5, 10.0  # that part two slabs at least: distances between slices, mm; less is a lost slice
_FEWEST_IN_SLAB = 3
_HALF = 0.5  # of a slab's extent, by which the middles of two slabs lie apart at least
_NO_CONTRAST = frozenset({"MP_GEMS", "FILTERED_GEMS", "EDR_GEMS", "ACC_GEMS"})
"""GE's ScanOptions of the number of phases, filter, range and acceleration, which posts may have without the pre."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a volume lies: its middle, mm; along the normal, its extent and the distance between slices, mm."""

    middle: np.ndarray
    normal: np.ndarray
    extent: float
    step: float


def part_slabs(volume: Volume) -> list[Volume]:
    """Two volumes if a sagittal one holds two slabs of equally many slices, one for each breast; else itself.

    There is a gap between them where the sternum is left out, or they overlap; then InstanceNumber, which goes through
    one slab and then through the other, tells them apart.
    """
    layout = _layout(volume)
    if layout is None or volume.fault is not None or abs(layout.normal[0]) < _MOSTLY:
        return [volume]
    along = np.array([np.dot(item.position or (), layout.normal) for item in volume.slices])
    half, rest = divmod(len(along), 2)
    by_place = np.argsort(along)
    steps = np.diff(along[by_place])
    if rest or half < _FEWEST_IN_SLAB or np.ptp(steps) <= _STEP_TOLERANCE * layout.step:
        return [volume]
    numbers = [item.instance_number or 0 for item in volume.slices]
    for order in (by_place, np.argsort(numbers, kind="stable")):
        steps = np.abs(np.diff(along[order]))
        step = float(np.median(steps))
        breaks = np.flatnonzero(np.abs(steps - step) > _STEP_TOLERANCE * step)
        first, second = along[order[:half]], along[order[half:]]
        gap = max(first.min(), second.min()) - min(first.max(), second.max())  # negative where they overlap
        if breaks.tolist() == [half - 1] and (gap > max(_GAP * step, _GAP_MM) or gap < 0):
            parts = order[:half].tolist(), order[half:].tolist()
            return [replace(volume, slices=tuple(volume.slices[index] for index in part)) for part in parts]
    return [volume]


def choose_family(volumes: Sequence[Volume], side: Side | None) -> tuple[list[Volume], dict[str, str]]:
    """The family with evidence of contrast or time, then of the most volumes, on the row's side; and why others not.

    Reasons are by series. Raises `StudyError` (`missing_phase`) without a family of two volumes, (`unclear_phases`) if
    both breasts were taken apart and `side` is None, (`mixed_geometry`) if one of the phases has another spacing.
    """
    families: list[list[Volume]] = []
    for volume in (slab for whole in volumes for slab in part_slabs(whole)):
        home = next((family for family in families if _same_family(family[0], volume)), None)
        if home is None:
            families.append([volume])
        else:
            home.append(volume)
    if not families:
        raise StudyError("missing_phase", "no MR images that could be a phase of a dynamic acquisition")
    # `max` takes the first of equals, and volumes come in the order of their series' numbers.
    best = max(families, key=lambda family: (count(family) >= _FEWEST, _evidence(family), count(family)))
    if count(best) < _FEWEST:
        raise StudyError("missing_phase", "only single volumes: a pre-contrast and a post-contrast phase are needed")
    best = _on_side(best, [family for family in families if _beside(best[0], family[0])], side)
    for family in families:
        if family is not best and _interrupts(family, best):
            raise StudyError("mixed_geometry", "a phase among the others differs from them in spacing")
    return best, {
        volume.first.series_uid: _why(best[0], volume) for family in families if family is not best for volume in family
    }


def count(family: Sequence[Volume]) -> int:
    """Number of volumes of a family; a series that could not be split counts as those it seems to hold."""
    return sum(1 if volume.fault is None else volume.siblings for volume in family)


def _evidence(family: Sequence[Volume]) -> bool:
    firsts = [volume.first for volume in family]
    positions = {item.temporal_position for item in firsts} - {None}
    return any(item.has_contrast or item.bolus_s is not None for item in firsts) or len(positions) > 1


def _on_side(best: list[Volume], others: list[list[Volume]], side: Side | None) -> list[Volume]:
    """Of families that lie side by side the one of the breast; x grows to the patient's left."""
    others = [family for family in others if count(family) >= _FEWEST]
    if not others:
        return best
    if side is None:
        raise StudyError("unclear_phases", "each breast was taken in a slab of its own, and no side is given")

    def x(family: list[Volume]) -> float:
        layout = _layout(family[0])
        return 0.0 if layout is None else float(layout.middle[0])

    return (max if side == "left" else min)([best, *others], key=x)


def _interrupts(family: list[Volume], best: list[Volume]) -> bool:
    """Whether a volume of the same sequence, rows, columns and direction, but of another spacing, was taken meanwhile.

    It was meant as a phase: a series of another purpose has a matrix or a plane of its own, or comes before or after.
    """
    first, other = best[0].first, family[0].first
    matrices = [(item.rows, item.columns, item.orientation) for item in (first, other)]
    if not _same_sequence(first, other) or matrices[0] != matrices[1] or _apart(best[0], family[0]):
        return False
    times = [time for volume in best if (time := earliest(volume, "acquired_s")) is not None]
    own = [time for volume in family if (time := earliest(volume, "acquired_s")) is not None]
    return bool(times) and any(min(times) < time < max(times) for time in own)


def _why(taken: Volume, volume: Volume) -> str:
    if not _same_sequence(taken.first, volume.first):
        return "another sequence or fat suppression than the phases"
    return "the other breast" if _beside(taken, volume) else "another matrix, plane or place than the phases"


def _same_family(first: Volume, second: Volume) -> bool:
    return _same_sequence(first.first, second.first) and _same_matrix(first, second) and not _apart(first, second)


def _beside(first: Volume, second: Volume) -> bool:
    """Whether two volumes are of one sequence and matrix, and sagittal slabs that do not overlap."""
    layout = _layout(first)
    sagittal = layout is not None and abs(layout.normal[0]) >= _MOSTLY
    alike = _same_sequence(first.first, second.first) and _same_matrix(first, second)
    return sagittal and alike and _apart(first, second)


def _same_sequence(first: FileHeader, second: FileHeader) -> bool:
    return (
        (first.sequence, first.variants) == (second.sequence, second.variants)
        and set(first.options) - _NO_CONTRAST == set(second.options) - _NO_CONTRAST
        and _near(first.repetition_ms, second.repetition_ms)
        and _near(first.echo_ms, second.echo_ms)
        and _near(first.flip_deg, second.flip_deg)
    )


def _near(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=_TOLERANCE)


def _same_matrix(first: Volume, second: Volume) -> bool:
    """Whether rows, columns, spacing and direction agree; what is absent is told when the slices are stacked."""
    one, other = first.first, second.first
    if (one.rows, one.columns) != (other.rows, other.columns):
        return False
    spacings = np.array([item.pixel_spacing for item in (one, other) if item.pixel_spacing])
    directions = np.array([item.orientation for item in (one, other) if item.orientation])
    if len(spacings) > 1 and np.ptp(np.log(np.maximum(spacings, 1e-9)), axis=0).max() > _SPACING_TOLERANCE:
        return not spacings.min() > 0  # a spacing of zero is told when the slices are stacked
    if len(directions) > 1 and np.ptp(directions, axis=0).max() > _DIRECTION_TOLERANCE:
        return False
    here, there = _layout(first), _layout(second)
    if here is None or there is None or not here.step or not there.step:
        return True
    return math.isclose(here.step, there.step, rel_tol=_STEP_TOLERANCE)


def _apart(first: Volume, second: Volume) -> bool:
    here, there = _layout(first), _layout(second)
    if here is None or there is None:
        return False
    distance = abs(float(np.dot(here.middle - there.middle, here.normal)))
    return distance > _HALF * max(here.extent, there.extent) > 0


def _layout(volume: Volume) -> _Layout | None:
    """None if a position or the orientation is absent."""
    orientation = volume.first.orientation
    points = [item.position for item in volume.slices if item.position is not None]
    if orientation is None or len(points) < len(volume.slices):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    along = np.unique(np.round(np.array(points) @ normal, 2))
    return _Layout(
        middle=np.mean(points, axis=0),
        normal=normal,
        extent=float(along[-1] - along[0]),
        step=float(np.median(np.diff(along))) if len(along) > 1 else 0.0,
    )
