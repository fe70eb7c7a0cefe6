"""Order and times of the volumes of a dynamic set, by the tags that mean order.

AcquisitionTime, TriggerTime, TemporalPositionIdentifier and AcquisitionNumber say when an image was acquired; if two of
them contradict each other, the exam is refused. ContentTime says when a file was made, and SeriesNumber when a series
was planned or sent: they are used only where none of the others tells all volumes apart. File names never decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import StudyError
from shared.modalities.mri.kinetics import FIRST_S, LAST_S
from shared.modalities.mri.series import Volume, earliest

NOMINAL_INTERVAL_S = 60.0  # interval of phases without a tag for their time
_HALF_DAY_S = 43_200.0
_MOST_IN_SERIES = 10_000
_MOST_POSITIONS = 200  # larger TemporalPositionIdentifiers are time stamps of a vendor, not a count

_Source = Callable[[Volume], float | None]


@dataclass(frozen=True, slots=True)
class Clock:
    """Volumes in order, and the start of each, s after the first; `epoch_s` is its time of day, None if nominal."""

    volumes: tuple[Volume, ...]
    starts: tuple[float, ...]
    epoch_s: float | None

    def since_start(self, time_of_day_s: float) -> float | None:
        """Seconds of a time of day after the first start, across midnight."""
        return None if self.epoch_s is None else _wrapped(time_of_day_s - self.epoch_s)


def put_in_order(family: Sequence[Volume]) -> Clock:
    """Order volumes and find their times.

    Raises `StudyError`: `unclear_phases` if no tag tells all volumes apart, or if tags contradict each other;
    `missing_phase` if TemporalPositionIdentifiers leave one out.
    """
    orders = _orders(family, _STRONG) or _orders(family, _WEAK)
    if not orders:
        raise StudyError("unclear_phases", "no tag tells the phases apart: two volumes seem to be of the same time")
    if len(set(orders.values())) > 1:
        names = " and ".join(sorted(orders))
        raise StudyError("unclear_phases", f"the order of the phases is not the same by {names}: which is right?")
    ordered = [family[index] for index in next(iter(orders.values()))]
    _check_positions(ordered)
    for source in _TIMES:
        values = _distinct(ordered, source, time_of_day=True)
        if values and all(sooner < later for sooner, later in itertools.pairwise(values)):
            return Clock(tuple(ordered), tuple(values), source(ordered[0]))
    return Clock(tuple(ordered), tuple(index * NOMINAL_INTERVAL_S for index in range(len(ordered))), None)


def choose_times(times_s: Sequence[float], most: int) -> list[int]:
    """Indices of at most `most` post-contrast phases that cover all times, of times in rising order after injection.

    These are the first, the last and those around the times at which `kinetics` reads, then each time the one farthest
    from all chosen.
    """
    if len(times_s) <= most:
        return list(range(len(times_s)))
    times = np.asarray(times_s, np.float64)
    wanted = [0, len(times) - 1]
    for time in (FIRST_S, LAST_S):
        after = int(np.searchsorted(times, time))
        wanted += [min(after, len(times) - 1), max(after - 1, 0)]
    chosen = list(dict.fromkeys(wanted))[:most]
    while len(chosen) < most:
        distance = np.abs(times[:, None] - times[chosen][None]).min(1)
        distance[chosen] = -1.0
        chosen.append(int(np.argmax(distance)))
    return sorted(chosen)


def _after_start(volume: Volume, elapsed_s: float | None) -> float | None:
    """Time of day of a phase from its time within the series, whose acquisition time may be the same for all phases."""
    if elapsed_s is None and volume.siblings > 1:
        return None
    start = next((t for t in (volume.first.acquired_s, volume.first.series_s) if t is not None), 0.0)
    return start + (elapsed_s or 0.0)


def _by_resolution(volume: Volume) -> float | None:
    step = volume.first.temporal_resolution_s
    return _after_start(volume, step * volume.index if step else None)


_ACQUIRED: _Source = lambda volume: earliest(volume, "acquired_s")  # noqa: E731
_TRIGGER: _Source = lambda volume: _after_start(volume, volume.first.trigger_s)  # noqa: E731
_CONTENT: _Source = lambda volume: earliest(volume, "content_s")  # noqa: E731
_SERIES: _Source = lambda volume: volume.first.series_s if volume.siblings == 1 else None  # noqa: E731
_TIMES = (_ACQUIRED, _TRIGGER, _CONTENT, _by_resolution, _SERIES)
_STRONG: dict[str, tuple[_Source, bool]] = {
    "AcquisitionTime": (_ACQUIRED, True),
    "TriggerTime": (_TRIGGER, True),
    "TemporalPositionIdentifier": (lambda volume: volume.first.temporal_position, False),
    "AcquisitionNumber": (lambda volume: volume.first.acquisition_number, False),
}
_WEAK: dict[str, tuple[_Source, bool]] = {
    "ContentTime": (_CONTENT, True),
    "TemporalResolution": (_by_resolution, True),
    "SeriesTime": (_SERIES, True),
    "SeriesNumber": (lambda volume: (volume.first.series_number or 0) * _MOST_IN_SERIES + volume.index, False),
}


def _orders(family: Sequence[Volume], sources: dict[str, tuple[_Source, bool]]) -> dict[str, tuple[int, ...]]:
    """Order of the volumes by each source that tells all of them apart."""
    orders = {}
    for name, (source, time_of_day) in sources.items():
        if values := _distinct(family, source, time_of_day=time_of_day):
            orders[name] = tuple(sorted(range(len(family)), key=values.__getitem__))
    return orders


def _distinct(family: Sequence[Volume], source: _Source, *, time_of_day: bool) -> list[float]:
    """Values of all volumes, of times the seconds after the first one's; empty if two are equal or one is absent."""
    values = [value for volume in family if (value := source(volume)) is not None]
    if len(values) < len(family):
        return []
    if time_of_day:
        values = [_wrapped(value - values[0]) for value in values]
    return values if len({round(value, 2) for value in values}) == len(values) else []


def _wrapped(seconds: float) -> float:
    """Difference of two times of day: an exam lasts less than half a day, so it can be taken across midnight."""
    return (seconds + _HALF_DAY_S) % (2 * _HALF_DAY_S) - _HALF_DAY_S


def _check_positions(ordered: Sequence[Volume]) -> None:
    """Refuse a set whose TemporalPositionIdentifiers show that its first or a middle phase is missing."""
    positions = sorted(item.first.temporal_position for item in ordered if item.first.temporal_position is not None)
    if len(positions) == len(ordered) == len(set(positions)) and positions[-1] <= _MOST_POSITIONS:
        expected = list(range(min(positions[0], 1), min(positions[0], 1) + len(positions)))
        if positions != expected:
            raise StudyError("missing_phase", f"temporal positions are {positions}, where {expected} are expected")
