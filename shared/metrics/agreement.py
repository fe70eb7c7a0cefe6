"""Agreement of two measurements of a quantity: intraclass correlation and Bland-Altman analysis."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from shared.metrics.intervals import Estimate, Numbers, Statistic, weighted_mean

_Z95 = float(stats.norm.ppf(0.975))


def icc(ratings: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """ICC(A,1) of `ratings` `(subject, rater)` (McGraw and Wong; Shrout and Fleiss' ICC(2,1)) with its interval.

    Two-way random effects, absolute agreement, single rating. The interval is that of McGraw and Wong (Psychol Methods
    1996;1:30, table 7, case 2A), by the F distribution with Satterthwaite's degrees of freedom. It assumes that
    subjects are normally distributed; for skewed volumes the patient bootstrap of `icc_a1` is better.

    Raises
    ------
    ValueError
        There are fewer than two subjects or raters, a value is not finite, or all ratings are the same.

    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():  # noqa: PLR2004 - subjects x raters
        raise ValueError(f"ratings must be a finite table of at least 2 subjects by 2 raters, not {table.shape}")
    n, k = table.shape
    grand = table.mean()
    rows = k * np.square(table.mean(axis=1) - grand).sum()
    columns = n * np.square(table.mean(axis=0) - grand).sum()
    rest = np.square(table - grand).sum() - rows - columns
    msr, msc, mse = float(rows / (n - 1)), float(columns / (k - 1)), float(max(0.0, rest) / ((n - 1) * (k - 1)))
    if msr == msc == mse == 0:
        raise ValueError("all ratings are the same: no correlation exists")
    a1 = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    if mse == 0 and msc == 0:  # all raters agree on each subject
        return Estimate(a1, 1.0, 1.0, n, n)
    a = k * a1 / (n * (1 - a1))
    b = 1 + k * a1 * (n - 1) / (n * (1 - a1))
    freedom = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    tail = 0.5 + confidence / 2
    lower, upper = float(stats.f.ppf(tail, n - 1, freedom)), float(stats.f.ppf(tail, freedom, n - 1))
    rater = k * msc + (k * n - k - n) * mse
    low = n * (msr - lower * mse) / (lower * rater + n * msr)
    high = n * (upper * msr - mse) / (rater + n * upper * msr)
    return Estimate(a1, low, high, n, n)


def icc_a1(values: Numbers, weights: Numbers) -> Numbers:
    """ICC(A,1) of two columns with each row of weights, a `Statistic` for `bootstrap_patients`; NaN if undefined."""
    total = weights.sum(axis=1)
    first, second = weights @ values[:, 0] / total, weights @ values[:, 1] / total
    grand = (first + second) / 2
    # Sums of squares of the two-way table with k = 2, from weighted moments around a fixed value (no cancellation).
    centre = values.mean()
    subject = values.mean(axis=1) - centre
    rows = 2 * (weights @ subject**2 - total * (grand - centre) ** 2)
    columns = total * ((first - grand) ** 2 + (second - grand) ** 2)
    everything = weights @ ((values - centre) ** 2).sum(axis=1) - 2 * total * (grand - centre) ** 2
    msr, mse = rows / (total - 1), np.maximum(0.0, everything - rows - columns) / (total - 1)
    result: Numbers = (msr - mse) / (msr + mse + 2 * (columns - mse) / total)
    return result


def bias(a: npt.ArrayLike, b: npt.ArrayLike, *, log: bool = False, confidence: float = 0.95) -> Estimate:
    """Mean of `a - b` of paired measurements `(n,)` in one unit, with Student's t interval.

    With `log` it is the geometric mean of the ratio `a / b`; use it if the spread grows with the size of the values
    (`spread_grows`).

    Raises
    ------
    ValueError
        Lengths differ, there are fewer than three pairs, or a value is not positive with `log`.

    """
    first, second = _pairs(a, b)
    if log and min(first.min(), second.min()) <= 0:
        raise ValueError("ratios need positive values: leave cases without a volume out and state their number")
    difference = np.log(first) - np.log(second) if log else first - second
    n = len(difference)
    mean = float(difference.mean())
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    back = math.exp if log else float
    return Estimate(back(mean), back(mean - half), back(mean + half), n, n)


def _limit(times: float) -> Statistic:
    """Statistic: mean of `a - b` plus `times` standard deviations."""

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        difference, total = values[:, 0] - values[:, 1], weights.sum(axis=1)
        # Relative to the mean of the data, so that the difference of squares loses no digits.
        centred = difference - difference.mean()
        shift = weights @ centred / total
        rest = np.maximum(0.0, weights @ centred**2 - total * shift**2)
        result: Numbers = difference.mean() + shift + times * np.sqrt(rest / (total - 1))
        return result

    return statistic


LIMITS: dict[str, Statistic] = {
    "bias": lambda values, weights: weighted_mean(values[:, :1] - values[:, 1:], weights),
    "limit_low": _limit(-_Z95),
    "limit_high": _limit(_Z95),
}
"""Bias and 95% limits of agreement of two columns as statistics for `bootstrap_patients` (Bland and Altman, Stat
Methods Med Res 1999;8:135)."""


def as_ratio(statistic: Statistic) -> Statistic:
    """Apply a statistic to logarithms and return its result as a ratio; values must be positive."""
    return lambda values, weights: np.exp(statistic(np.log(values), weights))


def spread_grows(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.05) -> bool:
    """Say whether the spread of `a - b` grows with the size of the values, so that logarithms should be compared.

    The test is Spearman's correlation of the absolute residual with the mean of the pair, one-sided (Bland and Altman
    1999, section 3.2, use a regression). With less than ten pairs the test is meaningless and the result is False.
    """
    first, second = _pairs(a, b)
    if len(first) < 10:  # noqa: PLR2004 - three points in order would be significant
        return False
    size, residual = (first + second) / 2, np.abs(first - second - (first - second).mean())
    if np.ptp(size) == 0 or np.ptp(residual) == 0:
        return False
    test = stats.spearmanr(size, residual, alternative="greater")
    return bool(test.pvalue < level)


def _pairs(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 3:  # noqa: PLR2004 - limits need a spread
        raise ValueError(f"need at least 3 pairs, not {first.shape} and {second.shape}")
    return first, second
