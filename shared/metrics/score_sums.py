"""Sums of classified cases that merge with `+`: histograms of scores, so that the AUC of all sites is not their mean.

A binned AUC is off by at most half the share of pairs (positive, negative) that lie in one bin. It chooses rounds and
thresholds; figures of a report come from the cases themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from statistics import fmean

from shared.metrics.roc import hanley_mcneil
from shared.metrics.sums import Moments

SUBTYPES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
LABELS = (*SUBTYPES, "er", "pr", "her2", "malignant")
KI67 = "ki67_percent"
BINS = 20

_NOTHING = (0,) * BINS
_NONE = Moments()
_NEAREST = 1e-6  # to 0 and 1 before the logarithm: one certain error must not outweigh every other case
_KI67_SCALE = 10.0  # percentage points that weigh as much as one unit of log-likelihood


@dataclass(frozen=True, slots=True)
class ScoreSums:
    """One binary label: cases by bin of the score, a class each, and moments of the negative log-likelihood (nats).

    `BINS` equal bins of [0, 1]; a bin holds its lower edge and not its upper one, the last holds 1 as well.
    """

    positives: tuple[int, ...] = _NOTHING
    negatives: tuple[int, ...] = _NOTHING
    loss: Moments = _NONE

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(
            positives=tuple(a + b for a, b in zip(self.positives, other.positives, strict=True)),
            negatives=tuple(a + b for a, b in zip(self.negatives, other.negatives, strict=True)),
            loss=self.loss + other.loss,
        )

    @property
    def single(self) -> bool:
        """Whether a class has no case, so that neither an AUC nor a threshold exists."""
        return not (any(self.positives) and any(self.negatives))


@dataclass(frozen=True, slots=True)
class ClassificationSums:
    """Mergeable sums over classified cases; `ClassificationSums()` is zero, `+` merges sites.

    Attributes
    ----------
    n
        Cases with at least one label.
    luminal_a, luminal_b, her2_enriched, triple_negative, er, pr, her2, malignant
        Sums of the label of that name over the cases that have it.
    ki67_error, ki67_absolute
        Moments of predicted minus true Ki-67 and of its size, percentage points.

    """

    n: int = 0
    luminal_a: ScoreSums = ScoreSums()
    luminal_b: ScoreSums = ScoreSums()
    her2_enriched: ScoreSums = ScoreSums()
    triple_negative: ScoreSums = ScoreSums()
    er: ScoreSums = ScoreSums()
    pr: ScoreSums = ScoreSums()
    her2: ScoreSums = ScoreSums()
    malignant: ScoreSums = ScoreSums()
    ki67_error: Moments = _NONE
    ki67_absolute: Moments = _NONE

    @classmethod
    def of(cls, labels: Iterable[tuple[str, float, float]]) -> ClassificationSums:
        """Sums of one case from its (label, truth, score); a label the case lacks is left out.

        Raises
        ------
        ValueError
            A label is unknown or given twice, a truth is not 0 or 1 (Ki-67: 0 to 100), or a score is not a probability
            (Ki-67: not finite).

        """
        parts: dict[str, ScoreSums] = {}
        error: Moments | None = None
        for label, truth, score in labels:
            if label in parts or (label == KI67 and error is not None):
                raise ValueError(f"'{label}' is given twice for one case")
            if label == KI67:
                if not (0.0 <= truth <= 100.0 and math.isfinite(score)):  # noqa: PLR2004 - percent
                    raise ValueError(f"'{label}' cannot be {truth} with a score of {score}")
                error = Moments.of(score - truth)
            else:
                parts[_known(label)] = _one(label, truth, score)
        error = error or _NONE
        absolute = replace(error, total=abs(error.total))
        return cls(n=int(bool(parts) or error.n > 0), **parts, ki67_error=error, ki67_absolute=absolute)

    def __add__(self, other: ClassificationSums) -> ClassificationSums:
        merged = {item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)}
        return ClassificationSums(**merged)

    def label(self, name: str) -> ScoreSums:
        """Sums of one binary label.

        Raises
        ------
        ValueError
            There is no such binary label.

        """
        found: ScoreSums = getattr(self, _known(name))
        return found

    def auc(self, label: str) -> float | None:
        """Mann-Whitney's AUC over the bins, pairs within a bin counted one half; `None` with a single class."""
        sums = self.label(label)
        if sums.single:
            return None
        below = accumulate(sums.negatives, initial=0)
        wins = sum(
            up * (lower + 0.5 * same) for up, same, lower in zip(sums.positives, sums.negatives, below, strict=False)
        )
        return wins / (sum(sums.positives) * sum(sums.negatives))

    def macro_auc(self) -> float | None:
        """Mean AUC of the subtypes that any case has; `None` without any, or where one of them has a single class."""
        areas = [self.auc(name) for name in SUBTYPES if self.label(name).loss.n]
        known = [area for area in areas if area is not None]
        return fmean(known) if known and len(known) == len(areas) else None

    def separation(self) -> tuple[float, float] | None:
        """Mean AUC of the labels and its standard error (Hanley and McNeil 1982); `None` where no label has an AUC.

        The error is the labels' mean one: their AUCs rest on the same cases, so it is no smaller than of one label.
        """
        areas = {name: area for name in LABELS if (area := self.auc(name)) is not None}
        if not areas:
            return None
        errors = [
            hanley_mcneil(area, sum(self.label(name).positives), sum(self.label(name).negatives))
            for name, area in areas.items()
        ]
        return fmean(areas.values()), fmean(errors)

    def threshold(self, label: str) -> float | None:
        """Bin edge with the largest sensitivity + specificity - 1 (Youden 1950); `None` with a single class.

        Of equal ones the lowest, and where empty bins follow it, the middle of that gap: as `youden_threshold`, it
        keeps its distance from the scores on either side.
        """
        sums = self.label(label)
        if sums.single:
            return None
        up, down = sum(sums.positives), sum(sums.negatives)
        missed, cleared = accumulate(sums.positives, initial=0), accumulate(sums.negatives, initial=0)
        gains = [b * up - a * down for a, b in zip(missed, cleared, strict=True)]
        # Whole numbers, so that ties are exact: a gain is Youden's index times all pairs.
        first = gains.index(max(gains))
        last = first
        while sums.positives[last] + sums.negatives[last] == 0:
            last += 1
        return (first + last) // 2 / BINS

    @property
    def score(self) -> float | None:
        """How good the probabilities are, larger is better: minus the mean over labels of each label's mean loss.

        A label weighs the same however many cases have it. The loss is the negative log-likelihood; of Ki-67 it is a
        tenth of the mean absolute error in percentage points. `None` without any label.
        """
        losses = [self.label(name).loss.mean for name in LABELS]
        absolute = self.ki67_absolute.mean
        losses.append(None if absolute is None else absolute / _KI67_SCALE)
        known = [loss for loss in losses if loss is not None]
        return -fmean(known) if known else None

    def to_dict(self) -> dict[str, float]:
        """Flat numbers, the same names whatever the labels: `n`, `er.positives.00`, ..., `er.loss.n`, ..."""
        flat = {"n": float(self.n)}
        for name in LABELS:
            sums = self.label(name)
            for kind, bins in (("positives", sums.positives), ("negatives", sums.negatives)):
                flat |= {f"{name}.{kind}.{index:02d}": float(count) for index, count in enumerate(bins)}
            flat |= _flat(f"{name}.loss", sums.loss)
        return flat | _flat("ki67_error", self.ki67_error) | _flat("ki67_absolute", self.ki67_absolute)

    @classmethod
    def from_dict(cls, flat: Mapping[str, float]) -> ClassificationSums:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            A name is missing or unknown, a value is not finite, a count is not whole, anything but `ki67_error.total`
            is negative, or the counts contradict each other.

        """
        expected = cls().to_dict()
        if set(flat) != set(expected):
            raise ValueError(f"not classification sums: unexpected or missing {sorted(set(flat) ^ set(expected))}")
        for name, value in flat.items():
            if not math.isfinite(value):
                raise ValueError(f"classification sums: '{name}' is not finite")
            if value < 0 and name != "ki67_error.total":
                raise ValueError(f"classification sums: '{name}' cannot be {value}")
            if not name.endswith((".total", ".squares")) and value != int(value):
                raise ValueError(f"classification sums: '{name}' is a count and cannot be {value}")
        parts = {
            name: ScoreSums(
                _bins(flat, f"{name}.positives"), _bins(flat, f"{name}.negatives"), _moments(flat, f"{name}.loss")
            )
            for name in LABELS
        }
        found = cls(
            n=int(flat["n"]),
            **parts,
            ki67_error=_moments(flat, "ki67_error"),
            ki67_absolute=_moments(flat, "ki67_absolute"),
        )
        sizes = [part.loss.n for part in parts.values()] + [found.ki67_error.n]
        if any(sum(part.positives) + sum(part.negatives) != part.loss.n for part in parts.values()):
            raise ValueError("classification sums: a label's bins and its losses count different cases")
        if found.ki67_error.n != found.ki67_absolute.n or not max(sizes) <= found.n <= sum(sizes):
            raise ValueError("classification sums: 'n' contradicts the labels' counts")
        return found


def _known(label: str) -> str:
    if label not in LABELS:
        raise ValueError(f"'{label}' is none of the binary labels {', '.join(LABELS)}")
    return label


def _one(label: str, truth: float, score: float) -> ScoreSums:
    if truth not in {0, 1} or not 0.0 <= score <= 1.0:
        raise ValueError(f"'{label}' cannot be {truth} with a probability of {score}")
    place = min(int(score * BINS), BINS - 1)
    bins = tuple(int(index == place) for index in range(BINS))
    chance = min(max(score if truth else 1.0 - score, _NEAREST), 1.0 - _NEAREST)
    loss = Moments.of(-math.log(chance))
    return ScoreSums(bins, _NOTHING, loss) if truth else ScoreSums(_NOTHING, bins, loss)


def _flat(name: str, part: Moments) -> dict[str, float]:
    return {f"{name}.n": float(part.n), f"{name}.total": float(part.total), f"{name}.squares": float(part.squares)}


def _moments(flat: Mapping[str, float], name: str) -> Moments:
    return Moments(int(flat[f"{name}.n"]), float(flat[f"{name}.total"]), float(flat[f"{name}.squares"]))


def _bins(flat: Mapping[str, float], name: str) -> tuple[int, ...]:
    return tuple(int(flat[f"{name}.{index:02d}"]) for index in range(BINS))
