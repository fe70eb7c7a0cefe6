"""Sums that are added with `+`: all that a site sends about its cases, and enough for means with intervals.

`Sums` are named parts: counts, moments of a value, or histograms of scores. The metrics of the task define which parts
there are (`shared.metrics.metric`), so a new metric needs no change here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scipy import stats

BINS = 20
"""Number of equal bins of [0, 1]; a bin includes its lower edge and not its upper one, the last also includes 1."""
MOST_CASES = 2**20
"""Cases, lesions and whatever else is counted: of one site, and of all together behind an average."""
CASES = "n"
"""Name of the part that counts the cases."""

_NO_BINS = (0,) * BINS


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of squares of a value over the cases where it exists."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, value: float | None) -> Moments:
        """Moments of the value of one case; `None` and NaN count as no case."""
        return cls() if value is None or math.isnan(value) else cls(1, float(value), float(value) ** 2)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """Mean over the cases where the value exists; `None` without any."""
        return self.total / self.n if self.n else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); `None` with fewer than two cases."""
        if self.n < 2:  # noqa: PLR2004 - a single value has no spread
            return None
        # Rounding can make it slightly negative if all values are equal.
        return math.sqrt(max(0.0, self.squares - self.total**2 / self.n) / (self.n - 1))

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Student's t interval of the mean at `confidence` (0 to 1); `None` with fewer than two cases."""
        mean, deviation = self.mean, self.deviation
        if mean is None or deviation is None:
            return None
        half = float(stats.t.ppf(0.5 + confidence / 2, self.n - 1)) * deviation / math.sqrt(self.n)
        return mean - half, mean + half


@dataclass(frozen=True, slots=True)
class Histogram:
    """Number of cases of a binary label by bin of their score, for each class."""

    positives: tuple[int, ...] = _NO_BINS
    negatives: tuple[int, ...] = _NO_BINS

    @classmethod
    def of(cls, truth: float, score: float) -> Histogram:
        """Histogram of one case with a truth (0 or 1) and a score (0 to 1).

        Raises
        ------
        ValueError
            The truth is not 0 or 1, or the score is not between 0 and 1.

        """
        if truth not in {0, 1} or not 0.0 <= score <= 1.0:
            raise ValueError(f"a truth of {truth} with a score of {score} is not one of a binary label")
        place = min(int(score * BINS), BINS - 1)
        bins = tuple(int(index == place) for index in range(BINS))
        return cls(bins, _NO_BINS) if truth else cls(_NO_BINS, bins)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            tuple(a + b for a, b in zip(self.positives, other.positives, strict=True)),
            tuple(a + b for a, b in zip(self.negatives, other.negatives, strict=True)),
        )

    @property
    def n(self) -> int:
        """Cases."""
        return sum(self.positives) + sum(self.negatives)

    @property
    def single(self) -> bool:
        """Whether a class has no cases, so that neither an AUC nor a threshold exists."""
        return not (any(self.positives) and any(self.negatives))


Part = Moments | Histogram | int
Kinds = Mapping[str, type[Part]]
"""Types of the parts that the sites of a task send, by name."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Named parts over some cases; `Sums()` is zero, `+` adds cases and sites by name."""

    parts: Mapping[str, Part] = field(default_factory=dict)

    @classmethod
    def zero(cls, kinds: Kinds) -> Sums:
        """No case, with every part: what a site adds its cases to, so that it sends the same names whatever it has."""
        return cls({name: kind() for name, kind in kinds.items()})

    def __add__(self, other: Sums) -> Sums:
        merged: dict[str, Any] = dict(self.parts)
        for name, part in other.parts.items():
            merged[name] = merged[name] + part if name in merged else part
        return Sums(merged)

    @property
    def n(self) -> int:
        """Cases."""
        return self.count(CASES)

    def sides(self) -> Iterator[str]:
        """Names of what a part counts cases of, where it counts some: a mean, or one class of a histogram."""
        for name, part in self.parts.items():
            if isinstance(part, Moments) and part.n:
                yield name
            elif isinstance(part, Histogram):
                yield from (f"{name}.{side}" for side in ("positives", "negatives") if any(getattr(part, side)))

    def without(self, names: Collection[str]) -> Sums:
        """The same sums with these parts as of no case."""
        return Sums({name: type(part)() if name in names else part for name, part in self.parts.items()})

    def count(self, name: str) -> int:
        """Count by name; 0 if there is none."""
        part = self.parts.get(name, 0)
        return part if isinstance(part, int) else 0

    def moments(self, name: str) -> Moments:
        """Moments by name; of no cases if there are none."""
        part = self.parts.get(name)
        return part if isinstance(part, Moments) else Moments()

    def histogram(self, name: str) -> Histogram:
        """Histogram by name; of no cases if there is none."""
        part = self.parts.get(name)
        return part if isinstance(part, Histogram) else Histogram()

    def to_flat(self) -> dict[str, float]:
        """Numbers by flat name for a message: `n`, `dice.n`, `dice.total`, `dice.squares`, `er.positives.00`, ..."""
        flat: dict[str, float] = {}
        for name, part in self.parts.items():
            if isinstance(part, Moments):
                flat |= {f"{name}.n": float(part.n), f"{name}.total": part.total, f"{name}.squares": part.squares}
            elif isinstance(part, Histogram):
                for side, bins in (("positives", part.positives), ("negatives", part.negatives)):
                    flat |= {f"{name}.{side}.{index:02d}": float(count) for index, count in enumerate(bins)}
            else:
                flat[name] = float(part)
        return flat

    @classmethod
    def from_flat(cls, flat: Mapping[str, float], kinds: Kinds, *, strict: bool = True) -> Sums:
        """Inverse of `to_flat`, given the kinds of the parts that are expected.

        If `strict`, unknown and missing names are refused, as of what a site sent. A journal of another version may
        hold parts that this one does not know: they are passed over, and those it lacks are zero.

        Raises
        ------
        ValueError
            An unknown or a missing name, a part of which some number is missing, a value that is not finite, a count
            that is negative, not whole or beyond `MOST_CASES`, or more cases behind a part than there are.

        """
        values = dict(flat)
        if strict and (odd := values.keys() ^ cls.zero(kinds).to_flat().keys()):
            raise ValueError(f"unknown or missing sums: {', '.join(sorted(odd)[:5])}")
        parts = {name: part for name, kind in kinds.items() if (part := _take(values, name, kind)) is not None}
        sums = cls(parts)
        for name, part in parts.items():
            if not isinstance(part, int) and part.n > sums.n:
                raise ValueError(f"'{name}' counts {part.n} cases of {sums.n}")
        return sums


def _take(values: dict[str, float], name: str, kind: type[Part]) -> Part | None:
    """Remove the numbers of a part from `values`; None if none of them is there."""
    if kind is int:
        return _count(name, values.pop(name)) if name in values else None
    if kind is Moments:
        keys = [f"{name}.{part}" for part in ("n", "total", "squares")]
    else:
        keys = [f"{name}.{side}.{index:02d}" for side in ("positives", "negatives") for index in range(BINS)]
    known = [values.pop(key) for key in keys if key in values]
    if not known:
        return None
    if len(known) < len(keys):
        raise ValueError(f"'{name}' is not whole: {len(keys) - len(known)} of its numbers are missing")
    if kind is Moments:
        total, squares = (_finite(name, value) for value in known[1:])
        if squares < 0:
            raise ValueError(f"'{name}' has a negative sum of squares")
        return Moments(_count(name, known[0]), total, squares)
    counts = tuple(_count(name, value) for value in known)
    return Histogram(counts[:BINS], counts[BINS:])


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"'{name}' holds a value that is not finite")
    return float(value)


def _count(name: str, value: float) -> int:
    if not 0 <= _finite(name, value) <= MOST_CASES or value != int(value):
        raise ValueError(f"'{name}' is a count and cannot be {value}")
    return int(value)
