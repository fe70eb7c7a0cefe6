"""The dynamic set of an exam: which volumes are phases of the DCE acquisition, their order and their times.

Only tags and pixels are used, never free text or names of files. Sequence parameters and the grid make families of
volumes (`families`), of which one is the dynamic set; of volumes of one moment one version is taken (`variants`);
copies, subtractions and other contrasts are told by pixels (`looks`); acquisition, trigger and temporal tags give the
order (`order`), contrast tags (DICOM PS3.3 C.7.6.4) or pixels the pre-contrast phase (`injection`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from shared.dicom.geometry import same_in_plane, stack_slices
from shared.dicom.header import FileHeader
from shared.errors import StudyError
from shared.modalities.mri.dce_study import SeriesSeen
from shared.modalities.mri.families import choose_family
from shared.modalities.mri.injection import find_injection
from shared.modalities.mri.looks import Look, copies, look_at, other_contrasts, subtractions
from shared.modalities.mri.order import NOMINAL_INTERVAL_S, choose_times, put_in_order
from shared.modalities.mri.series import Volume, could_be_phases, split_volumes
from shared.modalities.mri.variants import check_moments, one_version
from shared.types import Grid, Side

MOST_POST_PHASES = 8  # that are read, over all times
_SHIFT = 0.1  # of a voxel, between phases

_SORTED_OUT: tuple[tuple[Callable[[Sequence[Look]], Collection[int]], str], ...] = (
    (copies, "a copy of another series, pixel by pixel"),
    (subtractions, "by their pixels the subtraction of two others"),
    (other_contrasts, "by their pixels of another contrast than the phases, as without fat suppression"),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: its slices sorted along the normal, their grid, and the time in seconds after injection."""

    slices: tuple[FileHeader, ...]
    grid: Grid
    time_s: float


@dataclass(frozen=True, slots=True)
class DynamicSet:
    """The phases, the first pre-contrast; what was guessed or is doubtful; and all series of the exam."""

    phases: tuple[Phase, ...]
    notes: tuple[str, ...]
    series_seen: tuple[SeriesSeen, ...]


def find_dynamic_set(headers: Sequence[FileHeader], side: Side | None = None) -> DynamicSet:
    """Find the phases of the dynamic set: the last pre-contrast one, and up to eight post-contrast ones over all times.

    `side` is the row's, for exams with a slab of slices for each breast. Without any tag for times, phases are
    `NOMINAL_INTERVAL_S` apart.

    Raises
    ------
    StudyError
        `missing_phase`: there is no pre-contrast or no post-contrast phase. `unclear_phases`: volumes of one moment, or
        tags that contradict each other. `mixed_geometry`: the phases differ in position. `missing_slices`,
        `duplicate_slices`, `no_pixel_spacing`: see `geometry.stack_slices`.

    """
    possible = could_be_phases(headers)
    left_out = dict.fromkeys((item.series_uid for item in headers), "computed images, or another contrast")
    family, why = choose_family(split_volumes(possible), side)
    left_out |= why
    version = one_version(family)
    left_out |= dict.fromkeys(_uids(family) - _uids(version), "another version of the phases' images (ImageType)")
    for volume in version:
        if volume.fault is not None:
            raise volume.fault
    stacks = [stack_slices(volume.slices) for volume in version]
    _check_one_grid([grid for _, grid in stacks])
    kept = list(range(len(version)))
    looks = [look_at(*stack) for stack in stacks]
    notes = []
    for odd, reason in _SORTED_OUT:
        out = {kept[index] for index in odd([looks[index] for index in kept])}
        kept = [index for index in kept if index not in out]
        left_out |= {version[index].first.series_uid: reason for index in out}
        notes += [f"{len(out)} volumes are not taken for phases: {reason}."] if out else []
    if len(kept) < 2:  # noqa: PLR2004 - before and after
        raise StudyError("missing_phase", "of the volumes of the sequence at most one is a phase: " + " ".join(notes))
    check_moments([version[index] for index in kept])
    clock = put_in_order([version[index] for index in kept])
    if clock.epoch_s is None:
        notes.append(f"No tag tells when the phases were taken: they count as {NOMINAL_INTERVAL_S:g} s apart.")
    order = [next(index for index in kept if version[index] is volume) for volume in clock.volumes]
    injection = find_injection(clock, [looks[index] for index in order])
    later = [start - injection.time_s for start in clock.starts[injection.pre + 1 :]]
    chosen = [injection.pre, *(injection.pre + 1 + index for index in choose_times(later, MOST_POST_PHASES))]
    left_out |= {
        version[order[index]].first.series_uid: "before the last phase without contrast"
        if index < injection.pre
        else f"more phases than the {1 + MOST_POST_PHASES} that are read"
        for index in set(range(len(order))) - set(chosen)
    }
    phases = [
        Phase(tuple(stacks[order[index]][0]), stacks[order[index]][1], clock.starts[index] - injection.time_s)
        for index in chosen
    ]
    return DynamicSet(tuple(phases), (*notes, *injection.notes), _seen(headers, phases, left_out))


def _uids(volumes: Sequence[Volume]) -> set[str]:
    return {item.series_uid for volume in volumes for item in volume.slices}


def _seen(headers: Sequence[FileHeader], phases: Sequence[Phase], left_out: dict[str, str]) -> tuple[SeriesSeen, ...]:
    taken = {item.series_uid for phase in phases for item in phase.slices}
    by_series: dict[str, list[FileHeader]] = defaultdict(list)
    for item in headers:
        by_series[item.series_uid].append(item)
    seen = [
        SeriesSeen(name, items[0].series_number, len(items), name in taken, "" if name in taken else left_out[name])
        for name, items in by_series.items()
    ]
    return tuple(sorted(seen, key=lambda item: (item.number is None, item.number or 0, not item.taken, item.why)))


def _check_one_grid(grids: Sequence[Grid]) -> None:
    for grid in grids[1:]:
        if grids[0].shape == grid.shape and nearly_one_place(grids[0], grid):
            continue
        if grid.shape[0] != grids[0].shape[0] and same_in_plane(grids[0], grid):
            counts = sorted({item.shape[0] for item in grids})
            raise StudyError("missing_slices", f"the phases have unequal numbers of slices: {counts}")
        raise StudyError("mixed_geometry", "the phases differ in shape, spacing, direction or position")


def nearly_one_place(first: Grid, second: Grid) -> bool:
    """Whether corners agree within a tenth of a voxel along each axis: consoles round positions between series."""
    apart = (second.corners() - first.corners()) @ np.array(first.direction).reshape(3, 3)
    return bool(np.all(np.abs(apart) <= _SHIFT * np.array(first.spacing[::-1])))
