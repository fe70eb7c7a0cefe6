"""Sums that merge with `+`: all that leaves a site about its own cases, and enough for means with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scipy import stats

from shared.metrics.intervals import Numbers
from shared.metrics.overlap import CaseMetrics


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of squares of one figure over the cases where it exists."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, value: float | None) -> Moments:
        """One case's value; `None` adds nothing."""
        return cls() if value is None else cls(1, float(value), float(value) ** 2)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """Mean over the cases where the figure exists; `None` without any."""
        return self.total / self.n if self.n else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); `None` below two cases."""
        if self.n < 2:  # noqa: PLR2004 - two values are the fewest that spread
            return None
        # Rounding can leave a tiny negative where all values are equal.
        return math.sqrt(max(0.0, self.squares - self.total**2 / self.n) / (self.n - 1))

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Student's t interval of the mean at `confidence` (0 to 1); `None` below two cases."""
        mean, deviation = self.mean, self.deviation
        if mean is None or deviation is None:
            return None
        half = float(stats.t.ppf(0.5 + confidence / 2, self.n - 1)) * deviation / math.sqrt(self.n)
        return mean - half, mean + half


NOTHING = Moments()
"""Moments of no case."""


@dataclass(frozen=True, slots=True)
class SegmentationSums:
    """Mergeable sums over segmented cases; `SegmentationSums()` is zero, `+` merges sites.

    Attributes
    ----------
    n, failures
        Cases, and those in which exactly one of the two masks is empty.
    dice, nsd, sensitivity, ppv, hd95_mm, assd_mm, centroid_distance_mm
        Moments of `CaseMetrics`' field of the same name.
    volume_difference_ml
        Moments of predicted minus reference volume, ml.
    voxels_tp, voxels_fp, voxels_fn, lesions_tp, lesions_fp, lesions_fn
        Sums of the counts.

    """

    n: int = 0
    failures: int = 0
    dice: Moments = NOTHING
    nsd: Moments = NOTHING
    sensitivity: Moments = NOTHING
    ppv: Moments = NOTHING
    hd95_mm: Moments = NOTHING
    assd_mm: Moments = NOTHING
    centroid_distance_mm: Moments = NOTHING
    volume_difference_ml: Moments = NOTHING
    voxels_tp: int = 0
    voxels_fp: int = 0
    voxels_fn: int = 0
    lesions_tp: int = 0
    lesions_fp: int = 0
    lesions_fn: int = 0

    @classmethod
    def of(cls, case: CaseMetrics) -> SegmentationSums:
        """Sums of one case."""
        return cls(
            n=1,
            failures=int(case.failed),
            dice=Moments.of(case.dice),
            nsd=Moments.of(case.nsd),
            sensitivity=Moments.of(case.sensitivity),
            ppv=Moments.of(case.ppv),
            hd95_mm=Moments.of(case.hd95_mm),
            assd_mm=Moments.of(case.assd_mm),
            centroid_distance_mm=Moments.of(case.centroid_distance_mm),
            volume_difference_ml=Moments.of(case.volume_ml - case.reference_volume_ml),
            voxels_tp=case.voxels_tp,
            voxels_fp=case.voxels_fp,
            voxels_fn=case.voxels_fn,
            lesions_tp=case.lesions_tp,
            lesions_fp=case.lesions_fp,
            lesions_fn=case.lesions_fn,
        )

    def __add__(self, other: SegmentationSums) -> SegmentationSums:
        merged = {item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)}
        return SegmentationSums(**merged)

    @property
    def lesion_f1(self) -> float | None:
        """Lesion-wise F1 over all lesions together; `None` when no lesion exists or was predicted."""
        total = 2 * self.lesions_tp + self.lesions_fp + self.lesions_fn
        return 2 * self.lesions_tp / total if total else None

    @property
    def score(self) -> float | None:
        """What chooses the round, larger is better: the mean Dice."""
        return self.dice.mean

    def to_dict(self) -> dict[str, float]:
        """Flat numbers, fit for a message: `dice.n`, `dice.total`, `dice.squares`, ..., counts as whole floats."""
        return flat_sums(self)

    @classmethod
    def from_dict(cls, flat: Mapping[str, float]) -> SegmentationSums:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            A name is missing or unknown, a value is not finite, or a count is negative or not whole.

        """
        return cls(**read_sums(cls(), flat, "segmentation sums"))


def flat_sums(sums: Any) -> dict[str, float]:
    """Counts and moments of a dataclass as flat numbers: a moment's parts behind a point, counts as whole floats."""
    flat: dict[str, float] = {}
    for item in fields(sums):
        value = getattr(sums, item.name)
        if isinstance(value, Moments):
            flat |= {f"{item.name}.{part.name}": float(getattr(value, part.name)) for part in fields(value)}
        else:
            flat[item.name] = float(value)
    return flat


def read_sums(zero: Any, flat: Mapping[str, float], what: str) -> dict[str, Any]:
    """Fields of a dataclass from what `flat_sums` made; `zero` is an empty one, `what` its name in errors.

    Raises
    ------
    ValueError
        A name is missing or unknown, a value is not finite, or a count is negative or not whole.

    """
    expected = flat_sums(zero)
    if set(flat) != set(expected):
        raise ValueError(f"not {what}: unexpected or missing {sorted(set(flat) ^ set(expected))}")
    if not all(math.isfinite(value) for value in flat.values()):
        raise ValueError(f"{what} hold a value that is not finite")
    values: dict[str, int | Moments] = {}
    for item in fields(zero):
        name = item.name
        if name in flat:
            values[name] = _count(what, name, flat[name])
        else:
            number = _count(what, f"{name}.n", flat[f"{name}.n"])
            values[name] = Moments(number, float(flat[f"{name}.total"]), float(flat[f"{name}.squares"]))
    return values


def pooled_f1(values: Numbers, weights: Numbers) -> Numbers:
    """Lesion-wise F1 over cases of (found, extra, missed) lesions: a `Statistic` for `bootstrap_patients`."""
    found, extra, missed = (weights @ values[:, index] for index in range(3))
    result: Numbers = 2 * found / (2 * found + extra + missed)
    return result


def _count(what: str, name: str, value: float) -> int:
    if value < 0 or value != int(value):
        raise ValueError(f"{what}: '{name}' is a count and cannot be {value}")
    return int(value)
