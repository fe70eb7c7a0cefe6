"""A threshold chosen on validation cases and frozen, and what it does on others: 2 x 2 counts with Wilson intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from shared.metrics.intervals import Estimate, wilson


@dataclass(frozen=True, slots=True)
class Counts:
    """Cases by truth and call; they add up over sites."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def prevalence(self) -> float | None:
        """Share of positives: predictive values hold at this prevalence only."""
        n = self.tp + self.fp + self.fn + self.tn
        return (self.tp + self.fn) / n if n else None

    def estimates(self, confidence: float = 0.95) -> dict[str, Estimate]:
        """Sensitivity, specificity, PPV and NPV with Wilson's interval; no value where nothing is counted."""
        shares = {
            "sensitivity": (self.tp, self.tp + self.fn),
            "specificity": (self.tn, self.tn + self.fp),
            "ppv": (self.tp, self.tp + self.fp),
            "npv": (self.tn, self.tn + self.fn),
        }
        return {name: _share(hits, n, confidence) for name, (hits, n) in shares.items()}


def count(truth: npt.ArrayLike, score: npt.ArrayLike, threshold: float) -> Counts:
    """Count cases; a score at or above `threshold` is a call of 1."""
    positive, called = np.asarray(truth).astype(np.bool_), np.asarray(score, np.float64) >= threshold
    return Counts(
        tp=int((positive & called).sum()),
        fp=int((~positive & called).sum()),
        fn=int((positive & ~called).sum()),
        tn=int((~positive & ~called).sum()),
    )


def youden_threshold(truth: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950), half-way between two scores.

    Half-way, as R's pROC has it, because a cut on a validation case's own score puts that very case on the edge. Of
    equal ones the lowest, which misses fewest. `None` with a single class.
    """
    positive, values = np.asarray(truth).astype(np.bool_), np.asarray(score, np.float64)
    if positive.all() or not positive.any():
        return None
    levels = np.unique(values)
    cuts = np.concatenate([[-np.inf], 0.5 * (levels[1:] + levels[:-1]), [np.inf]])
    called = values[None] >= cuts[:, None]
    gain = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    best = int(np.argmax(np.round(gain, 12)))
    return float(np.clip(cuts[best], levels[0], np.nextafter(levels[-1], np.inf)))


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test of two classifiers on the same cases: chi-square with continuity correction, and the exact p."""

    statistic: float
    p: float
    exact_p: float


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Test whether two classifiers err equally often (McNemar 1947), from the cases that only one gets right.

    With no such case they do not differ: statistic 0, p 1.
    """
    discordant = only_a + only_b
    if not discordant:
        return McNemar(0.0, 1.0, 1.0)
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / discordant
    exact = stats.binomtest(only_a, discordant, 0.5).pvalue
    return McNemar(statistic, float(stats.chi2.sf(statistic, 1)), float(exact))


def _share(hits: int, n: int, confidence: float) -> Estimate:
    if not n:
        return Estimate(None, None, None, 0, 0)
    low, high = wilson(hits, n, confidence)
    return Estimate(hits / n, low, high, n, n)
