"""Metrics of a predicted number and its reference in two columns: volume, density, Ki-67."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.metrics.agreement import LIMITS, as_ratio, icc_a1, spread_grows
from shared.metrics.intervals import Numbers, mean_deviation
from shared.metrics.metric import Metric

_FEWEST_PAIRS = 3
_TITLES = {"limit_low": "Lower limit of agreement", "limit_high": "Upper limit of agreement"}


@dataclass(frozen=True, slots=True)
class NumberPair:
    """A predicted number and its reference, with their title and unit on pages: "volume", `ml`."""

    pattern: str  # of the metrics' names: `volume_{}` gives `volume_bias`
    title: str
    unit: str
    columns: tuple[str, str]  # of the per-case table: predicted, then reference


def agreement_metrics(pair: NumberPair) -> Iterator[Metric]:
    """ICC(A,1), and bias with 95% limits of agreement (Bland and Altman)."""

    def named(key: str) -> str:
        return pair.pattern.format(key)

    yield Metric(
        named("icc_a1"), "1", f"ICC(A,1) of {pair.title}",
        f"Absolute agreement of predicted and reference {pair.title}.", pair.columns, icc_a1, signed=True,
        shown=frozenset({"plotted"}),
    )  # fmt: skip
    yield Metric(
        named("bias"), pair.unit, f"Bias of {pair.title}", f"Mean of predicted minus reference {pair.title}.",
        pair.columns, read=differences, signed=True, sent="moments", shown=frozenset({"internal"}),
    )  # fmt: skip
    for key, title in _TITLES.items():
        yield Metric(
            named(key), pair.unit, title, "95% limits of agreement of the difference (Bland and Altman).",
            pair.columns, LIMITS[key], signed=True,
        )  # fmt: skip


def ratio_metrics(pair: NumberPair) -> Iterator[Metric]:
    """Bias and limits as ratios, for differences that grow with size (Bland and Altman 1999, section 3)."""
    for key, statistic in LIMITS.items():
        title = "Ratio" if key == "bias" else f"{_TITLES[key]}, ratio"
        meaning = (
            "Geometric mean of predicted / reference, as the spread grows with size."
            if key == "bias"
            else "95% limits of agreement of the ratio."
        )
        yield Metric(
            pair.pattern.format(f"ratio_{key}"), "1", f"{title} of {pair.title}" if key == "bias" else title, meaning,
            pair.columns, as_ratio(statistic), read=_positive, applies=is_spread_with_size,
        )  # fmt: skip


def error_metrics(pair: NumberPair) -> Iterator[Metric]:
    """Mean absolute error, and the error of always predicting the mean of these cases."""
    yield Metric(
        pair.pattern.format("mae"), pair.unit, f"Mean absolute error of {pair.title}", "Mean size of the difference.",
        pair.columns, read=lambda columns: np.abs(differences(columns)), higher_is_better=False, sent="moments",
        shown=frozenset({"internal", "plotted"}),
    )  # fmt: skip
    yield Metric(
        f"{pair.pattern.format('mae')}_of_mean", pair.unit, "The same, of the mean alone",
        f"Error of always predicting the mean {pair.title} of these cases: the baseline to beat.", pair.columns,
        mean_deviation, read=_reference, higher_is_better=False,
    )  # fmt: skip


def differences(columns: Numbers) -> Numbers:
    """Predicted minus reference, `(case, 2)` to `(case, 1)`."""
    return columns[:, :1] - columns[:, 1:]


def is_spread_with_size(columns: Numbers) -> bool:
    """Whether predicted and reference numbers should be compared as ratios, which numbers of 0 do not have."""
    positive = columns[(columns > 0).all(axis=1)]
    return len(positive) >= _FEWEST_PAIRS and spread_grows(positive[:, 0], positive[:, 1])


def _reference(columns: Numbers) -> Numbers:
    return np.where(np.isnan(columns[:, :1]), np.nan, columns[:, 1:])


def _positive(columns: Numbers) -> Numbers:
    return np.where((columns > 0).all(axis=1, keepdims=True), columns, np.nan)
