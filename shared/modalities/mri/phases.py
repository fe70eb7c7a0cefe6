"""The dynamic set of an exam: which volumes are phases of the DCE acquisition, their order and their times.

Only tags are used, never free text. Sequence parameters distinguish the dynamic set from localisers, T2 and diffusion;
acquisition, trigger and temporal tags give the order; contrast tags (DICOM PS3.3 C.7.6.4) identify the pre-contrast
phase.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.dicom.geometry import same_in_plane, stack_slices
from shared.dicom.header import FileHeader
from shared.errors import StudyError
from shared.modalities.mri.series import Volume, could_be_phases, split_series
from shared.types import Grid

MOST_POST_PHASES = 8  # that are read, the earliest; the plan's phases are chosen from them by time
NOMINAL_INTERVAL_S = 60.0  # interval of phases without a tag for their time
_HALF_DAY_S = 43_200.0
_HOUR_S = 3600.0
_TOLERANCE = 0.05  # relative tolerance of TR, TE and flip angle within a dynamic set
_FEWEST = 2
_MOST_IN_SERIES = 10_000
_MOST_POSITIONS = 200  # larger TemporalPositionIdentifiers are time stamps of a vendor, not a count

_Source = Callable[[Volume], float | None]


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: its slices sorted along the normal, their grid, and the time in seconds after injection."""

    slices: tuple[FileHeader, ...]
    grid: Grid
    time_s: float


@dataclass(frozen=True, slots=True)
class _Clock:
    """Start of each volume, s after the first given one; `epoch_s` is its time of day, or None for nominal starts."""

    starts: tuple[float, ...]
    epoch_s: float | None


def select_phases(headers: Sequence[FileHeader]) -> list[Phase]:
    """Select the phases of the dynamic set: the last pre-contrast one, then up to eight post-contrast ones by time.

    The injection is at ContrastBolusStartTime if that tag is given, else at the end of the pre-contrast phase (its
    start plus AcquisitionDuration; without that tag its start, so that times are too large by at most one acquisition).
    Without any tag for times, phases are `NOMINAL_INTERVAL_S` apart.

    Raises
    ------
    StudyError
        `missing_phase`: there is no pre-contrast or no post-contrast phase. `mixed_geometry`: the phases differ in
        shape, spacing or direction. `missing_slices`, `duplicate_slices`, `no_pixel_spacing`: see
        `geometry.stack_slices`.

    """
    by_series: dict[str, list[FileHeader]] = defaultdict(list)
    for item in could_be_phases(headers):
        by_series[item.series_uid].append(item)
    volumes = [volume for name in sorted(by_series) for volume in split_series(by_series[name])]
    family = _dynamic_set(volumes)
    for volume in family:
        if volume.fault is not None:
            raise volume.fault
    clock = _start_times(family)
    order = sorted(range(len(family)), key=lambda index: clock.starts[index])
    family, starts = [family[index] for index in order], [clock.starts[index] for index in order]
    _check_positions(family)
    stacks = [stack_slices(volume.slices) for volume in family]
    _check_one_grid([grid for _, grid in stacks])
    pre, injection = _injection(family, starts, clock.epoch_s)
    return [
        Phase(tuple(slices), grid, start - injection)
        for (slices, grid), start in list(zip(stacks, starts, strict=True))[pre : pre + 1 + MOST_POST_PHASES]
    ]


def _dynamic_set(volumes: Sequence[Volume]) -> list[Volume]:
    """Volumes of one repeated sequence: first choice those with evidence of contrast or time, then the most volumes."""
    families: list[list[Volume]] = []
    for volume in volumes:
        home = next((family for family in families if _same_sequence(family[0].first, volume.first)), None)
        if home is None:
            families.append([volume])
        else:
            home.append(volume)
    # A scanner may store computed copies (registered, filtered) beside the acquired images: only one of both is used.
    families = [_prefer_original(family) for family in families]
    if not families:
        raise StudyError("missing_phase", "no MR images that could be a phase of a dynamic acquisition")
    best = max(families, key=lambda family: (_count(family) >= _FEWEST, _evidence(family), _count(family)))
    if _count(best) < _FEWEST:
        raise StudyError("missing_phase", "only single volumes: a pre-contrast and a post-contrast phase are needed")
    return best


def _count(family: Sequence[Volume]) -> int:
    """Number of volumes of a family; a series that could not be split counts as those it seems to hold."""
    return sum(1 if volume.fault is None else volume.siblings for volume in family)


def _evidence(family: Sequence[Volume]) -> bool:
    firsts = [volume.first for volume in family]
    positions = {item.temporal_position for item in firsts} - {None}
    return any(item.has_contrast or item.bolus_s is not None for item in firsts) or len(positions) > 1


def _prefer_original(family: list[Volume]) -> list[Volume]:
    original = [volume for volume in family if volume.original]
    return original if _count(original) >= _FEWEST else family


def _same_sequence(first: FileHeader, second: FileHeader) -> bool:
    return (
        first.sequence == second.sequence
        and _near(first.repetition_ms, second.repetition_ms)
        and _near(first.echo_ms, second.echo_ms)
        and _near(first.flip_deg, second.flip_deg)
    )


def _near(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=_TOLERANCE)


def _start_times(family: Sequence[Volume]) -> _Clock:
    """Start of each volume, from the first source that distinguishes all of them."""
    timed: tuple[_Source, ...] = (
        lambda volume: _earliest(volume, lambda item: item.acquired_s),
        lambda volume: _after_start(volume, volume.first.trigger_s),
        lambda volume: _earliest(volume, lambda item: item.content_s),
        lambda volume: _after_start(volume, _scale(volume.first.temporal_resolution_s, volume.index)),
        lambda volume: volume.first.series_s if volume.siblings == 1 else None,
    )
    for source in timed:
        values = [value for volume in family if (value := source(volume)) is not None]
        if len(values) == len(family):
            # An exam lasts less than half a day, so differences can be taken across midnight.
            starts = [(value - values[0] + _HALF_DAY_S) % (2 * _HALF_DAY_S) - _HALF_DAY_S for value in values]
            if len({round(value, 2) for value in starts}) == len(family):
                return _Clock(tuple(starts), values[0])
    ordered: tuple[_Source, ...] = (
        lambda volume: volume.first.temporal_position,
        lambda volume: volume.first.acquisition_number,
        lambda volume: (volume.first.series_number or 0) * _MOST_IN_SERIES + volume.index,
    )
    for source in ordered:
        ranks = sorted({value for volume in family if (value := source(volume)) is not None})
        if len(ranks) == len(family):
            return _Clock(tuple(ranks.index(source(volume) or 0) * NOMINAL_INTERVAL_S for volume in family), None)
    raise StudyError("duplicate_slices", "no tag tells the phases apart: two volumes seem to be of the same time")


def _earliest(volume: Volume, of: Callable[[FileHeader], float | None]) -> float | None:
    """Start of a volume whose slices were acquired one after another: the earliest time of its slices."""
    values = [value for item in volume.slices if (value := of(item)) is not None]
    return min(values) if len(values) == len(volume.slices) else None


def _after_start(volume: Volume, elapsed_s: float | None) -> float | None:
    """Time of day of a phase from its time within the series, whose acquisition time may be the same for all phases."""
    if elapsed_s is None and volume.siblings > 1:
        return None
    start = next((t for t in (volume.first.acquired_s, volume.first.series_s) if t is not None), 0.0)
    return start + (elapsed_s or 0.0)


def _scale(step: float | None, count: int) -> float | None:
    return step * count if step else None


def _injection(family: Sequence[Volume], starts: Sequence[float], epoch_s: float | None) -> tuple[int, float]:
    """Index of the last pre-contrast volume, and the time of injection, s; both refer to `starts`."""
    boluses = [item.first.bolus_s for item in family if item.first.bolus_s is not None]
    given = None
    if boluses and epoch_s is not None:
        given = (min(boluses) - epoch_s + _HALF_DAY_S) % (2 * _HALF_DAY_S) - _HALF_DAY_S
    # A bolus more than an hour away is a default of some consoles (midnight, the time of registration).
    if given is not None and starts[0] - _HOUR_S < given < starts[-1] + _HOUR_S:
        injection = given
        before = [
            index for index, start in enumerate(starts) if start < injection or (start == injection and not index)
        ]
        if not before:
            raise StudyError("missing_phase", "every phase begins after the contrast injection: the first is missing")
        pre = before[-1]
    else:
        agents = [volume.first.has_contrast for volume in family]
        leading = agents.index(True) if any(agents) else 0  # phases before the first with contrast
        pre = max(leading - 1, 0)
        injection = starts[pre] + (family[pre].first.duration_s or 0.0)
        # A duration that exceeds the start of the next phase belongs to the whole series, not to the phase.
        if pre + 1 < len(starts) and injection > starts[pre + 1]:
            injection = starts[pre]
    if pre + 1 >= len(family):
        raise StudyError("missing_phase", "no phase begins after the contrast injection")
    return pre, injection


def _check_positions(family: Sequence[Volume]) -> None:
    """Refuse a set whose TemporalPositionIdentifiers show that its first or a middle phase is missing."""
    positions = sorted(item.first.temporal_position for item in family if item.first.temporal_position is not None)
    if len(positions) == len(family) == len(set(positions)) and positions[-1] <= _MOST_POSITIONS:
        expected = list(range(min(positions[0], 1), min(positions[0], 1) + len(positions)))
        if positions != expected:
            raise StudyError("missing_phase", f"temporal positions are {positions}, where {expected} are expected")


def _check_one_grid(grids: Sequence[Grid]) -> None:
    for grid in grids[1:]:
        if grids[0].same_space(grid):
            continue
        if grid.shape[0] != grids[0].shape[0] and same_in_plane(grids[0], grid):
            counts = sorted({item.shape[0] for item in grids})
            raise StudyError("missing_slices", f"the phases have unequal numbers of slices: {counts}")
        raise StudyError("mixed_geometry", "the phases differ in shape, spacing, direction or position")
