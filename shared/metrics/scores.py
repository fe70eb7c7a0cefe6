"""Metrics of a binary label, from the columns `truth_<label>`, `score_<label>` and `threshold_<label>`.

The AUC is the first; then follow the metrics at the fixed threshold, and the calibration of the probabilities.
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

_NEAREST = 1e-6  # distance from 0 and 1 before the logarithm, so that one error does not outweigh all cases
_LED: frozenset[Place] = frozenset({"card", "compared", "pooled", "internal", "plotted"})


def label_metrics(label: str, title: str, *, led: bool = True) -> Iterator[Metric]:
    """Metrics of one binary label, by its name in the columns and its title on pages; the first is its AUC.

    `led` says whether its AUC is among the first figures of the page; not where a mean over labels stands for it.
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
        "Negative mean log-likelihood of the truth: 0.693 for always predicting one half; lower is better.", pair,
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
    "slope": "Of the truth on the logits of the probabilities; 1 is ideal, below 1 means too extreme.",
    "intercept": "With the slope held at 1; 0 is ideal.",
}


def macro_auc(labels: Mapping[str, str]) -> Metric:
    """Mean AUC of several exclusive labels; `labels` maps each label to its title."""
    return Metric(
        "auc_macro", "1", f"AUC, mean of the {_WORDS.get(len(labels), str(len(labels)))}",
        "Mean of the labels' AUCs; not defined where one of them has none.",
        tuple(f"{part}_{label}" for label in labels for part in ("truth", "score")),
        macro_area, read=_partly, labels=tuple(labels), sent="histogram",
        shown=_LED,
    )  # fmt: skip


_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


def macro_area(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: mean AUC over pairs of columns (truth, score); a truth of -1 means that the case lacks the label."""
    areas = []
    for part in np.split(values, values.shape[1] // 2, axis=1):
        known = part[:, 0] >= 0
        areas.append(weighted_auc(part[known], weights[:, known]))
    result: Numbers = np.mean(areas, axis=0)
    return result


def log_losses(pair: Numbers) -> Numbers:
    """Negative log-likelihood of each case, nats: from truth and score `(case, 2)` to `(case, 1)`."""
    chance = np.where(pair[:, 0] > 0, pair[:, 1], 1 - pair[:, 1])
    losses: Numbers = -np.log(np.clip(chance, _NEAREST, 1 - _NEAREST))[:, None]
    losses[~np.isfinite(pair).all(axis=1)] = np.nan
    return losses


def separation(sums: Sums, labels: tuple[str, ...]) -> tuple[float, float] | None:
    """Mean AUC of the labels and its standard error (Hanley and McNeil 1982); `None` if no label has an AUC.

    The error is the mean of the labels' errors: as their AUCs depend on the same cases, averaging does not reduce it.
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

    Of several it is the lowest, which misses fewest cases; if empty bins follow, it is the middle of the gap, away from
    the scores on both sides.
    """
    if histogram.single:
        return None
    up, down = sum(histogram.positives), sum(histogram.negatives)
    missed, cleared = accumulate(histogram.positives, initial=0), accumulate(histogram.negatives, initial=0)
    gains = [b * up - a * down for a, b in zip(missed, cleared, strict=True)]
    # Integers (Youden's index times the number of pairs), so that ties are exact.
    first = gains.index(max(gains))
    last = first
    while histogram.positives[last] + histogram.negatives[last] == 0:
        last += 1
    return (first + last) // 2 / BINS


def _partly(columns: Numbers) -> Numbers:
    """Set labels that a case lacks, or that have no score, to -1; a case without any label is NaN."""
    pairs = columns.reshape(len(columns), columns.shape[1] // 2, 2)
    lacking = np.asarray(np.isnan(pairs).any(axis=2))
    pairs = np.where(lacking[:, :, None], -1.0, pairs)
    pairs[lacking.all(axis=1)] = np.nan
    return pairs.reshape(columns.shape)


def _true(truth: Numbers, _called: Numbers) -> Numbers:
    return truth


def _called(_truth: Numbers, called: Numbers) -> Numbers:
    return called


def _right(chosen: Callable[[Numbers, Numbers], Numbers], value: float) -> Callable[[Numbers], Numbers]:
    """Whether a case is classified correctly, for cases whose truth or call is `value`; NaN for the others."""

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
    """Statistic of the cases without resampling, as a fit per resample would be too slow."""

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        value = getattr(_fit(np.ascontiguousarray(values).tobytes()), name)
        return np.full(len(weights), np.nan if value is None else value)

    return statistic


@functools.lru_cache(maxsize=8192)
def _fit(pairs: bytes) -> Calibration:
    """Fit once for three metrics, from the bytes of truth and score `(case, 2)`."""
    return calibration(*np.frombuffer(pairs).reshape(-1, 2).T)
