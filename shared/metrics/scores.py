"""Metrics of scores: of a binary label from its columns `truth_<label>`, `score_<label>` and `threshold_<label>`.

A label's AUC comes first; what holds at its frozen threshold, and whether its probabilities mean what they say, after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from statistics import fmean

import numpy as np

from shared.metrics.calibration import Calibration, calibration
from shared.metrics.intervals import Numbers, Statistic
from shared.metrics.metric import Metric, Place, binned_auc
from shared.metrics.roc import hanley_mcneil, weighted_auc
from shared.metrics.sums import BINS, Histogram, Sums

_NEAREST = 1e-6  # to 0 and 1 before the logarithm: one certain error must not outweigh every other case


_LED: frozenset[Place] = frozenset({"card", "compared", "pooled", "internal", "plotted"})


def label_metrics(label: str, title: str, *, led: bool = True) -> Iterator[Metric]:
    """The metrics of one binary label; the first is its AUC.

    Parameters
    ----------
    label, title
        Name in the columns, and as pages write it.
    led
        Whether its AUC is among the figures that arms are compared by; not where a mean over labels stands for it.

    """
    pair = (f"truth_{label}", f"score_{label}")
    shares = (*pair, f"threshold_{label}")
    yield Metric(
        f"auc_{label}", "1", f"AUC, {title}", "Area under the ROC curve; not defined with a single class.", pair,
        weighted_auc, labels=(label,), sent="histogram",
        shown=_LED if led else _LED - {"card"},
    )  # fmt: skip
    yield Metric(
        f"auc_{label}_delong", "1", f"AUC, {title}, DeLong", "The same AUC with DeLong's interval.", pair, weighted_auc,
        interval="delong", labels=(label,),
    )  # fmt: skip
    at_threshold = "at the threshold that was frozen on validation cases"
    for name, words, chosen, right in (
        ("sensitivity", "Share of positive cases called positive", _true, 1),
        ("specificity", "Share of negative cases called negative", _true, 0),
        ("ppv", "Share of cases called positive that are", _called, 1),
        ("npv", "Share of cases called negative that are", _called, 0),
    ):
        yield Metric(
            f"{name}_{label}", "1", f"{name.upper() if len(name) == 3 else name.capitalize()}, {title}",  # noqa: PLR2004
            f"{words}, {at_threshold}.", shares, read=_right(chosen, right), interval="wilson", labels=(label,),
        )  # fmt: skip
    yield Metric(
        f"prevalence_{label}", "1", f"Prevalence, {title}", "Share of positive cases.", pair, read=_truth,
        interval="none", labels=(label,),
    )  # fmt: skip
    yield Metric(
        f"brier_{label}", "1", f"Brier score, {title}", "Mean squared distance of probability and truth.", pair,
        read=_squares, labels=(label,), higher_is_better=False,
    )  # fmt: skip
    yield Metric(
        f"log_loss_{label}", "nat", f"Log loss, {title}",
        "Minus the mean log-likelihood of the truth: 0.693 for always answering one half; lower is better.", pair,
        read=log_losses, labels=(label,), higher_is_better=False, sent="moments",
    )  # fmt: skip
    for name, part, words in (
        ("ece", "ece", "ECE"),
        ("calibration_slope", "slope", "Calibration slope"),
        ("calibration_intercept", "intercept", "Calibration intercept"),
    ):
        yield Metric(
            f"{name}_{label}", "1", f"{words}, {title}", _CALIBRATION[part], pair, _calibration(part), interval="none",
            labels=(label,), higher_is_better=name != "ece", signed=name != "ece",
        )  # fmt: skip


_CALIBRATION = {
    "ece": "Expected calibration error over ten bins.",
    "slope": "Of the truth on the probabilities' logits; 1 is ideal, below 1 is too extreme.",
    "intercept": "With the slope held at 1; 0 is ideal.",
}


def macro_auc(labels: Mapping[str, str]) -> Metric:
    """The mean AUC of several labels of which a case has one; the labels with their titles."""
    return Metric(
        "auc_macro", "1", f"AUC, mean of the {_WORDS.get(len(labels), str(len(labels)))}",
        "Mean of the labels' AUCs; not defined where one of them has none.",
        tuple(f"{part}_{label}" for label in labels for part in ("truth", "score")),
        macro_area, read=_partly, labels=tuple(labels), sent="histogram",
        shown=_LED,
    )  # fmt: skip


_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


def macro_area(values: Numbers, weights: Numbers) -> Numbers:
    """Mean AUC over pairs of columns (truth, score); a truth of -1 is a label that the case lacks."""
    areas = []
    for part in np.split(values, values.shape[1] // 2, axis=1):
        known = part[:, 0] >= 0
        areas.append(weighted_auc(part[known], weights[:, known]))
    result: Numbers = np.mean(areas, axis=0)
    return result


def log_losses(pair: Numbers) -> Numbers:
    """Minus the log-likelihood of each case's truth, nats; `(case, 2)` of truth and score to `(case, 1)`."""
    chance = np.where(pair[:, 0] > 0, pair[:, 1], 1 - pair[:, 1])
    losses: Numbers = -np.log(np.clip(chance, _NEAREST, 1 - _NEAREST))[:, None]
    losses[~np.isfinite(pair).all(axis=1)] = np.nan
    return losses


def separation(sums: Sums, labels: tuple[str, ...]) -> tuple[float, float] | None:
    """Mean AUC of the labels and its standard error (Hanley and McNeil 1982); `None` where no label has an AUC.

    The error is the labels' mean one: their AUCs rest on the same cases, so it is no smaller than of one label.
    """
    areas, errors = [], []
    for label in labels:
        histogram = sums.histogram(label)
        area = binned_auc(histogram)
        if area is not None:
            areas.append(area)
            errors.append(hanley_mcneil(area, sum(histogram.positives), sum(histogram.negatives)))
    return (fmean(areas), fmean(errors)) if areas else None


def youden_threshold(histogram: Histogram) -> float | None:
    """Bin edge with the largest sensitivity + specificity - 1 (Youden 1950); `None` with a single class.

    Of equal ones the lowest, which misses fewest, and where empty bins follow it, the middle of that gap: it keeps its
    distance from the scores on either side.
    """
    if histogram.single:
        return None
    up, down = sum(histogram.positives), sum(histogram.negatives)
    missed, cleared = accumulate(histogram.positives, initial=0), accumulate(histogram.negatives, initial=0)
    gains = [b * up - a * down for a, b in zip(missed, cleared, strict=True)]
    # Whole numbers, so that ties are exact: a gain is Youden's index times all pairs.
    first = gains.index(max(gains))
    last = first
    while histogram.positives[last] + histogram.negatives[last] == 0:
        last += 1
    return (first + last) // 2 / BINS


def _partly(columns: Numbers) -> Numbers:
    """A case that lacks a label, or its answer, has it as -1; one that has none of them is NaN."""
    pairs = columns.reshape(len(columns), -1, 2)
    lacking = np.asarray(np.isnan(pairs).any(axis=2))
    pairs = np.where(lacking[:, :, None], -1.0, pairs)
    pairs[lacking.all(axis=1)] = np.nan
    return pairs.reshape(columns.shape)


def _true(truth: Numbers, _called: Numbers) -> Numbers:
    return truth


def _called(_truth: Numbers, called: Numbers) -> Numbers:
    return called


def _right(chosen: Callable[[Numbers, Numbers], Numbers], value: float) -> Callable[[Numbers], Numbers]:
    """Whether a case is called right, among those whose truth or call is `value`; NaN of the others."""

    def read(columns: Numbers) -> Numbers:
        truth, score, threshold = columns.T
        called = (score >= threshold).astype(np.float64)
        right = (truth == called).astype(np.float64)
        right[(chosen(truth, called) != value) | np.isnan(truth + score + threshold)] = np.nan
        values: Numbers = right[:, None]
        return values

    return read


def _truth(pair: Numbers) -> Numbers:
    truth: Numbers = np.where(np.isnan(pair[:, 1:]), np.nan, pair[:, :1])
    return truth


def _squares(pair: Numbers) -> Numbers:
    squares: Numbers = np.square(pair[:, 1:] - pair[:, :1])
    return squares


def _calibration(name: str) -> Statistic:
    """A figure of the cases as they are: a fit is too slow for every resample."""

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        value = getattr(_fitted(np.ascontiguousarray(values).tobytes()), name)
        return np.full(len(weights), np.nan if value is None else value)

    return statistic


@functools.lru_cache(maxsize=8192)
def _fitted(pairs: bytes) -> Calibration:
    """One fit for its three figures, from the bytes of `(case, 2)`: truth and score."""
    return calibration(*np.frombuffer(pairs).reshape(-1, 2).T)
