"""Declaration of a metric, which results, study, tracking, pages, model card and docs read.

To add one, declare it in the `metrics` of a task (docs/architecture.md has a worked example).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.metrics.intervals import Estimate, Numbers, Statistic, weighted_mean
from shared.metrics.roc import weighted_auc
from shared.metrics.sums import BINS, CASES, Histogram, Kinds, Moments, Part, Sums

Interval = Literal["bootstrap", "wilson", "delong", "none"]
Sent = Literal["moments", "counts", "histogram", "nothing"]
Place = Literal["card", "compared", "pooled", "internal", "plotted"]
_ROUNDING = 1e-9
_LARGEST = {"1": 1.0, "%": 100.0, "mm": 1e4, "ml": 1e5, "nat": 1e3}
_LARGEST_OF_ANY = 1e6


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name, unit
        Name and unit in `results.csv`; the unit of shares is `1`, as in UCUM.
    title, meaning
        Title on pages, and an explanation in one sentence; `{...}` stands for a key of `[evaluation]`.
    columns
        Columns of the per-case table that it reads; it does not exist for a table without them.
    statistic
        Computes it from values `(case, column)` and weights; see `intervals.Statistic`.
    read
        Converts the columns `(case, column)` to the values of the statistic; a row with NaN is a case without a value.
    interval
        Bootstrap over patients; Wilson's, for a mean of zeros and ones; DeLong's, for an AUC with one case per patient;
        or none.
    labels
        Labels that it evaluates; with fewer than ten cases of a class it is shown but not ranked.
    higher_is_better, signed
        Whether larger is better, and whether it can be negative.
    sent
        What a site sends: moments of the case's value (for a mean), counts of each column (for a statistic of sums), a
        histogram of the scores of each label (for an AUC), or nothing.
    shown
        Where it is shown beside the table of all metrics: "card" (first figures of the page), "compared" (comparison of
        arms), "pooled" (over centres), "internal" (table of the training sites), "plotted" (figures of a study).
    applies
        Whether it is meaningful for these values.

    """

    name: str
    unit: str
    title: str
    meaning: str
    columns: tuple[str, ...]
    statistic: Statistic = weighted_mean
    read: Callable[[Numbers], Numbers] = lambda columns: columns
    interval: Interval = "bootstrap"
    labels: tuple[str, ...] = ()
    higher_is_better: bool = True
    signed: bool = False
    sent: Sent = "nothing"
    shown: frozenset[Place] = frozenset()
    applies: Callable[[Numbers], bool] = lambda _values: True

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over cases, so that each case contributes to a difference on its own."""
        return self.statistic is weighted_mean

    @property
    def largest(self) -> float:
        """Largest magnitude of one case's value that a site may send, by the unit."""
        return _LARGEST.get(self.unit, _LARGEST_OF_ANY)

    @property
    def is_auc(self) -> bool:
        """Whether it is an AUC: one half by chance, and pooled over centres on the logit scale."""
        return self.sent == "histogram"

    def values(self, table: pd.DataFrame) -> Numbers:
        """Values `(case, column)` from a per-case table, NaN in rows of cases without a value."""
        values: Numbers = self.read(table.reindex(columns=list(self.columns)).to_numpy(np.float64, na_value=np.nan))
        return values

    def answered(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Whether each case has all columns of one of the labels; without labels every case has.

        A figure that such cases lack, lacks a class: it is told of as undefined, and not passed over.
        """
        known = table.reindex(columns=list(self.columns)).notna()
        parts = [[f"{part}_{label}" for part in ("truth", "score", "threshold")] for label in self.labels]
        whole = [known[[name for name in part if name in known]].all(axis=1).to_numpy() for part in parts]
        answered: npt.NDArray[np.bool_] = np.any(whole, axis=0) if whole else np.ones(len(table), np.bool_)
        return answered

    @property
    def kinds(self) -> Kinds:
        """Parts of the sums that a site sends for it."""
        if self.sent == "moments":
            return {self.name: Moments}
        if self.sent == "counts":
            return dict.fromkeys(self.columns, int)
        return dict.fromkeys(self.labels, Histogram) if self.sent == "histogram" else {}

    def parts(self, row: dict[str, float | None]) -> dict[str, Part]:
        """Parts that one case, a row of the per-case table, adds to the sums of its site."""
        columns = np.array([[math.nan if (value := row.get(name)) is None else value for name in self.columns]])
        if self.sent == "moments":
            return {self.name: Moments.of(float(self.read(columns)[0, 0]))}
        if self.sent == "counts":
            return {name: int(value) for name, value in zip(self.columns, columns[0], strict=True)}
        if self.sent == "histogram":
            pairs = columns[0].reshape(len(self.labels), 2)
            known = [(name, pair) for name, pair in zip(self.labels, pairs, strict=True) if np.isfinite(pair).all()]
            return {name: Histogram.of(*pair) for name, pair in known}
        return {}

    def of(self, sums: Sums) -> float | None:
        """Value from the sums of sites; `None` if it does not exist."""
        if self.sent == "moments":
            return sums.moments(self.name).mean
        if self.sent == "histogram":
            areas = [binned_auc(sums.histogram(name)) for name in self.labels]
            known = [area for area in areas if area is not None]
            return fmean(known) if known and len(known) == len(areas) else None
        if self.sent == "counts" and sums.n:
            # All cases as the mean case: a statistic of sums is the same as on the cases themselves.
            totals = np.array([[sums.count(name) for name in self.columns]], np.float64) / sums.n
            with np.errstate(invalid="ignore", divide="ignore"):
                value = float(self.statistic(self.read(totals), np.array([[float(sums.n)]]))[0])
            return value if math.isfinite(value) else None
        return None

    def estimate(self, sums: Sums, confidence: float) -> Estimate | None:
        """Value from sums, with Student's t interval for a mean, clipped to the range of the metric.

        `None` if no case has it. A statistic of counts and an AUC from histograms have no interval.
        """
        cases = self._cases(sums)
        if not cases:
            return None
        low = high = None
        if self.sent == "moments":
            low, high = sums.moments(self.name).interval(confidence) or (None, None)
            if not self.signed and low is not None and high is not None:
                low, high = max(0.0, low), (min(1.0, high) if self.unit == "1" else high)
        return Estimate(self.of(sums), low, high, cases, cases)

    def _cases(self, sums: Sums) -> int:
        if self.sent == "moments":
            # A metric without a value for any case is still reported, unless its label is missing.
            return sums.moments(self.name).n or (0 if self.labels else sums.n)
        if self.sent == "histogram":
            return max((sums.histogram(name).n for name in self.labels), default=0)
        return sums.n if self.sent == "counts" else 0


def binned_auc(histogram: Histogram) -> float | None:
    """AUC from a histogram, with the bin as the score; `None` with a single class.

    Its error is at most half of the share of pairs (positive, negative) in one bin. It is used to choose rounds and
    thresholds; the AUC of a report is computed from the cases.
    """
    if histogram.single:
        return None
    pairs = np.array([(truth, place) for truth in (1.0, 0.0) for place in range(BINS)])
    counts = np.array([[*histogram.positives, *histogram.negatives]], np.float64)
    return float(weighted_auc(pairs, counts)[0])


def check_figures(metrics: Sequence[Metric], sums: Sums) -> None:
    """Refuse sums of a task that no cases can have: one site's could choose the round for all.

    Raises
    ------
    ValueError
        A mean outside its metric's range, squares too small for their sum, metrics of the same columns that count
        different cases, or more cases than have any figure.

    """
    known: dict[tuple[str, ...], int] = {}
    for metric in metrics:
        part = sums.moments(metric.name)
        most = metric.largest * part.n * (1 + _ROUNDING)
        if not metric.signed and not 0 <= part.total <= most:
            raise ValueError(f"'{metric.name}' cannot be {part.total} over {part.n} cases")
        # Not `**`, which raises OverflowError where a product is infinite.
        if part.total * part.total > part.n * part.squares + _ROUNDING * part.total * part.total:
            raise ValueError(f"'{metric.name}' has a sum of squares that contradicts its sum")
        if abs(part.total) > most or part.squares > metric.largest * most:
            raise ValueError(f"'{metric.name}' cannot be {part.total} over {part.n} cases, with squares {part.squares}")
        if metric.sent == "moments" or (metric.sent == "histogram" and len(metric.labels) == 1):
            cases = part.n if metric.sent == "moments" else sums.histogram(metric.labels[0]).n
            if known.setdefault(metric.columns, cases) != cases:
                raise ValueError(f"'{metric.name}' counts other cases than what is made of the same columns")
    if known and sums.n > sum(known.values()):
        raise ValueError("'n' contradicts the figures' counts")


def kinds_of(metrics: Sequence[Metric]) -> Kinds:
    """Parts of the sums that a site sends for the metrics of a task."""
    kinds: dict[str, Any] = {CASES: int}
    for metric in metrics:
        kinds |= metric.kinds
    return kinds


def sums_of(metrics: Sequence[Metric], row: dict[str, float | None]) -> Sums:
    """Sums of one case, a row of the per-case table."""
    parts: dict[str, Part] = {CASES: 1}
    for metric in metrics:
        parts |= metric.parts(row)
    return Sums(parts)
