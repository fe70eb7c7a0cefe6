"""Volumes of one moment: versions of an image that a scanner or an export made, of which one is taken for all phases.

Siemens stores images with and without correction of distortion (DIS2D, ND), filtered ones beside acquired ones; an exam
may be exported twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from shared.errors import StudyError
from shared.modalities.mri.families import count
from shared.modalities.mri.series import Volume, earliest

_CORRECTED = frozenset({"DIS2D", "DIS3D", "NORM"})
_DISTORTION = frozenset({"ND", "DIS2D", "DIS3D"})
_FEWEST = 2

Moment = tuple[float | None, ...]


def one_version(family: list[Volume]) -> list[Volume]:
    """Volumes of one version, if two are of one moment: acquired, then of the most moments, then corrected ones.

    Raises `StudyError` (`unclear_phases`) if only some of the phases are corrected for distortion.
    """
    original = [volume for volume in family if volume.original]
    kept = original if count(original) >= _FEWEST else family
    versions: dict[frozenset[str], list[Volume]] = defaultdict(list)
    for volume in kept:
        versions[frozenset(volume.first.image_type[2:]) - {""}].append(volume)
    by_moment: dict[Moment, set[frozenset[str]]] = defaultdict(set)
    for version, volumes in versions.items():
        for volume in volumes:
            by_moment[_moment(volume)].add(version)
    if any(len(several) > 1 for several in by_moment.values()):

        def rank(version: frozenset[str]) -> tuple[int, int]:
            return len({_moment(volume) for volume in versions[version]}), len(version & _CORRECTED)

        kept = versions[max(versions, key=rank)]  # of equals the first: volumes come in the order of their series
    if len({frozenset(volume.first.image_type) & _DISTORTION for volume in kept}) > 1:
        raise StudyError(
            "unclear_phases", "only some of the phases are corrected for distortion (ND, DIS2D): export one kind of all"
        )
    return kept


def check_moments(family: Sequence[Volume]) -> None:
    """Refuse volumes of one moment with unlike pixels: AcquisitionTime, where all have it, tells phases apart."""
    moments = [_moment(volume) for volume in family]
    if len(set(moments)) < len(moments):
        several = len(moments) - len(set(moments)) + 1
        raise StudyError(
            "unclear_phases",
            f"{several} series of one kind and AcquisitionTime hold unlike images, as of water and fat or of two "
            "reconstructions: export one of them",
        )


def _moment(volume: Volume) -> Moment:
    """When a volume was acquired, as far as tags tell; of one series each volume has its own."""
    first = volume.first
    acquired = earliest(volume, "acquired_s")
    place = volume.index if volume.siblings > 1 else 0
    if acquired is not None:
        return round(acquired, 2), first.trigger_s, first.temporal_position, place
    other = earliest(volume, "content_s") if first.temporal_position is None else None
    number = first.series_number if first.temporal_position is None else None
    return None, first.trigger_s, first.temporal_position, place, other, number
