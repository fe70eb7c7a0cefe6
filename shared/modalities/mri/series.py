"""Split the images of an exam into volumes: slices that were acquired at the same time.

Vendors differ: Siemens and GE often write one series per phase; GE also writes one series whose phases differ in
TriggerTime; Philips writes one series with TemporalPositionIdentifier; Canon may write a series per slice. A series
with repeated slice positions is split by the first tag that explains the repetition.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.dicom.header import FileHeader
from shared.errors import StudyError

# Values of ImageType from the third on, as Siemens, GE and Philips write them, of images that are no acquired phase.
_COMPUTED = frozenset(
    {
        *("SUBTRACT", "SUBTRACTION", "SUB", "MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "MPR", "CSA MPR"),
        # Of enhanced MR (PS3.3 C.8.16.1.4).
        *(
            "ADDITION",
            "DIVISION",
            "MASKED",
            "MAXIMUM",
            "MEAN",
            "MINIMUM",
            "MULTIPLICATION",
            "STD_DEVIATION",
            "QUANTITY",
        ),
    }
)
_OTHER_CONTRAST = frozenset({"LOCALIZER", "DIFFUSION", "ADC", "TRACEW", "T1 MAP", "T2 MAP"})
_NOT_MAGNITUDE = frozenset({"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"})
_NOT_A_PHASE = _COMPUTED | _OTHER_CONTRAST | _NOT_MAGNITUDE
_WATER = frozenset({"WATER", "W"})
_NOT_WATER = frozenset({"FAT", "F", "IN_PHASE", "IP", "OUT_PHASE", "OPP_PHASE", "OP", "FAT_FRACTION", "FF"})
_ROUND_MM = 2  # decimals of a position: slices closer than 0.01 mm have the same position

Splitter = Callable[[FileHeader], float | None]
_SPLITTERS: tuple[Splitter, ...] = (
    lambda item: item.temporal_position,
    lambda item: item.trigger_s,
    lambda item: item.acquisition_number,
    lambda item: item.series_number,  # of series of single slices, which are joined
    lambda item: item.acquired_s,
    lambda item: item.content_s,
)


@dataclass(frozen=True, slots=True)
class Volume:
    """Slices of one time; `fault` says why a series could not be split, and is raised if the series is needed."""

    slices: tuple[FileHeader, ...]
    index: int
    siblings: int
    fault: StudyError | None = None

    @property
    def first(self) -> FileHeader:
        """The first slice, which stands for the tags that all slices share."""
        return self.slices[0]

    @property
    def original(self) -> bool:
        """Whether the scanner acquired it, instead of computing it from other images."""
        return "DERIVED" not in self.first.image_type


def earliest(volume: Volume, keyword: str) -> float | None:
    """Start of a volume whose slices were acquired one after another: the earliest time of its slices."""
    values = [value for item in volume.slices if (value := _value(item, keyword)) is not None]
    return min(values) if len(values) == len(volume.slices) else None


def _value(item: FileHeader, keyword: str) -> float | None:
    value: float | None = getattr(item, keyword)
    return value


def could_be_phases(headers: Sequence[FileHeader]) -> list[FileHeader]:
    """Images without computed ones, without other contrasts, and of a Dixon acquisition only those of water."""
    kinds = [frozenset(item.image_type[2:]) for item in headers]
    dixon = any(_WATER & kind for kind in kinds)
    unwanted = _NOT_A_PHASE | _NOT_WATER if dixon else _NOT_A_PHASE
    return [item for item, kind in zip(headers, kinds, strict=True) if not unwanted & kind and not item.diffusion]


def split_volumes(headers: Sequence[FileHeader]) -> list[Volume]:
    """Volumes of all series; series that are a single place each, of one sequence and matrix, are one series."""
    by_series: dict[str, list[FileHeader]] = defaultdict(list)
    for item in headers:
        by_series[item.series_uid].append(item)
    whole: dict[tuple[Any, ...], list[FileHeader]] = defaultdict(list)
    for name, items in by_series.items():
        lone = len({_place(item) for item in items}) == 1
        first = items[0]
        matrix = first.rows, first.columns, _rounded(first.orientation), first.pixel_spacing
        whole[(first.sequence, first.image_type, matrix) if lone else (name,)].extend(items)
    volumes = [_typical_first(volume) for items in whole.values() for volume in split_series(items)]
    return sorted(volumes, key=lambda item: (item.first.series_number or 0, item.first.series_uid, item.index))


def _typical_first(volume: Volume) -> Volume:
    """With a slice first that has the tags of most: the order of files must not decide which one stands for all."""

    def tags(item: FileHeader) -> tuple[Any, ...]:
        sequence = item.sequence, item.variants, item.options, item.repetition_ms, item.echo_ms, item.flip_deg
        return sequence, item.image_type, item.rows, item.columns, item.pixel_spacing, item.orientation

    usual = Counter(tags(item) for item in volume.slices).most_common(1)[0][0]
    return replace(volume, slices=tuple(sorted(volume.slices, key=lambda item: tags(item) != usual)))


def split_series(slices: Sequence[FileHeader]) -> list[Volume]:
    """Split a series into volumes in the order of its tags; one volume with a fault if none explains the repetition."""
    members = list(slices)
    repeats = Counter(_place(item) for item in members)
    most = max(repeats.values())
    if most == 1:
        return [Volume(tuple(members), 0, 1)]
    for splitter in _SPLITTERS:
        groups = _group(members, splitter)
        if len(groups) == most and all(len({_place(item) for item in group}) == len(group) for group in groups):
            return [Volume(tuple(group), index, most) for index, group in enumerate(groups)]
    usual = Counter(repeats.values()).most_common(1)[0][0]
    if most > usual:
        extra = sum(count > usual for count in repeats.values())
        fault = StudyError("duplicate_slices", f"{extra} slice positions of a phase hold two different images")
        return [Volume(tuple(members), 0, usual, fault)]
    if min(repeats.values()) < usual or any(item.instance_number is None for item in members):
        fault = StudyError("missing_slices", "the phases of a series have unequal numbers of slices")
        return [Volume(tuple(members), 0, usual, fault)]
    if len({(_place(item), item.instance_number) for item in members}) < len(members):
        fault = StudyError("unclear_phases", "images at one position have one InstanceNumber: no tag tells their phase")
        return [Volume(tuple(members), 0, usual, fault)]
    return _by_instance(members, most)


def _place(item: FileHeader) -> tuple[float, ...]:
    return (*_rounded(item.position), *_rounded(item.orientation))


def _rounded(values: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(round(value, _ROUND_MM) for value in values or ())


def _group(members: Sequence[FileHeader], splitter: Splitter) -> list[list[FileHeader]]:
    """Groups of slices with the same value of a tag, in ascending order; empty if a slice lacks the tag."""
    groups: dict[float, list[FileHeader]] = defaultdict(list)
    for item in members:
        value = splitter(item)
        if value is None:
            return []
        groups[value].append(item)
    return [groups[value] for value in sorted(groups)]


def _by_instance(members: Sequence[FileHeader], count: int) -> list[Volume]:
    """Split by InstanceNumber, as no tag distinguishes the phases: the k-th image at a position belongs to phase k."""
    at: dict[tuple[float, ...], list[FileHeader]] = defaultdict(list)
    for item in sorted(members, key=lambda item: item.instance_number or 0):
        at[_place(item)].append(item)
    return [Volume(tuple(items[index] for items in at.values()), index, count) for index in range(count)]
