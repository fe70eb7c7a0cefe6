"""Classification at a fixed threshold: 2 x 2 counts, and shares of them with Wilson's interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.metrics.intervals import Estimate, wilson


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of true and false positives and negatives; they add up over sites."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def prevalence(self) -> float | None:
        """Share of positive cases; predictive values hold only at this prevalence."""
        n = self.tp + self.fp + self.fn + self.tn
        return (self.tp + self.fn) / n if n else None

    def estimates(self, confidence: float = 0.95) -> dict[str, Estimate]:
        """Sensitivity, specificity, PPV and NPV with Wilson's interval; without a value if no case counts."""
        shares = {
            "sensitivity": (self.tp, self.tp + self.fn),
            "specificity": (self.tn, self.tn + self.fp),
            "ppv": (self.tp, self.tp + self.fp),
            "npv": (self.tn, self.tn + self.fn),
        }
        return {name: _share(hits, n, confidence) for name, (hits, n) in shares.items()}


def count(truth: npt.ArrayLike, score: npt.ArrayLike, threshold: float) -> Counts:
    """Count cases; a score of at least `threshold` predicts class 1."""
    positive, called = np.asarray(truth).astype(np.bool_), np.asarray(score, np.float64) >= threshold
    return Counts(
        tp=int((positive & called).sum()),
        fp=int((~positive & called).sum()),
        fn=int((positive & ~called).sum()),
        tn=int((~positive & ~called).sum()),
    )


def _share(hits: int, n: int, confidence: float) -> Estimate:
    if not n:
        return Estimate(None, None, None, 0, 0)
    low, high = wilson(hits, n, confidence)
    return Estimate(hits / n, low, high, n, n)
