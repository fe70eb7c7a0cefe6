"""When contrast was injected: by the bolus time and the agent in the tags, else by what the pixels show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import StudyError
from shared.modalities.mri.looks import Look, last_before_injection
from shared.modalities.mri.order import Clock

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Injection:
    """Index of the last pre-contrast volume, the time of injection on the clock of the starts, s, and what to tell."""

    pre: int
    time_s: float
    notes: tuple[str, ...] = ()


def find_injection(clock: Clock, looks: Sequence[Look]) -> Injection:
    """Find the pre-contrast phase of volumes in order.

    Tags tell it if ContrastBolusStartTime lies between two starts, or if ContrastBolusAgent is absent from the first
    volumes alone. A bolus time outside the phases is believed only if the agent says the same. If both tell it and
    contradict each other, or none does, the pixels settle it, and a note says so. With a bolus time that is believed,
    it is the injection; else the end of the pre-contrast phase is (its start plus AcquisitionDuration; without that tag
    its start, so that times are too large by at most one acquisition).

    Raises `StudyError` (`missing_phase`) if there is no phase before, or none after the injection.
    """
    given = _bolus(clock)
    by_bolus = None if given is None else _last_before(clock, given)
    agents = [volume.first.has_contrast for volume in clock.volumes]
    by_agent = agents.index(True) - 1 if any(agents) and not agents[0] else None
    if given is not None and given <= clock.starts[0] and by_bolus is None and agents[0]:
        raise StudyError("missing_phase", "every phase begins after the contrast injection: the first is missing")
    if given is not None and given > clock.starts[-1] and not any(agents):
        raise StudyError("missing_phase", "no phase begins after the contrast injection")
    seen = last_before_injection(looks)
    told = {pre for pre in (by_bolus, by_agent) if pre is not None}
    notes: list[str] = []
    if given is not None and by_bolus is None and (told or seen is not None):
        notes.append("ContrastBolusStartTime lies outside the phases, and is not believed.")
    if len(told) == 1:
        (pre,) = told
        if seen is not None and seen != pre:
            notes.append(
                f"By the tags contrast came after phase {pre + 1} of {len(clock.starts)}, but the tissue brightens "
                f"after phase {seen + 1}: look at it."
            )
    elif told:
        pre = seen if seen is not None and seen in told else by_bolus or 0
        how = "the pixels settled it" if seen in told else "the bolus time is taken"
        notes.append(f"Bolus time and agent name different phases as the last before contrast: {how}.")
    elif seen is not None:
        pre = seen
        notes.append(
            f"Which phase is pre-contrast is guessed: no tag tells the injection, the tissue brightens after phase "
            f"{pre + 1} of {len(clock.starts)}."
        )
    else:
        raise StudyError(
            "missing_phase",
            "no tag tells when contrast was injected, and the tissue does not brighten from one phase to the next",
        )
    if pre == by_bolus and given is not None:
        return Injection(pre, given, tuple(notes))
    return Injection(pre, _end_of(clock, pre), tuple(notes))


def _bolus(clock: Clock) -> float | None:
    """Bolus time on the clock; one more than an hour away is a default of some consoles (midnight, registration)."""
    times = [volume.first.bolus_s for volume in clock.volumes if volume.first.bolus_s is not None]
    given = clock.since_start(min(times)) if times else None
    if given is None or not clock.starts[0] - _HOUR_S < given < clock.starts[-1] + _HOUR_S:
        return None
    return given


def _last_before(clock: Clock, injection: float) -> int | None:
    """Index of the last volume that began before the injection, if one began after it."""
    before = [
        index for index, start in enumerate(clock.starts) if start < injection or (start == injection and not index)
    ]
    return before[-1] if before and len(before) < len(clock.starts) else None


def _end_of(clock: Clock, pre: int) -> float:
    end = clock.starts[pre] + (clock.volumes[pre].first.duration_s or 0.0)
    # A duration that exceeds the start of the next phase belongs to the whole series, not to the phase.
    return clock.starts[pre] if end > clock.starts[pre + 1] else end
