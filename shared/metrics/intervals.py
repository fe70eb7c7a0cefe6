"""Confidence intervals: Wilson's for proportions, the percentile bootstrap over patients for other statistics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Statistic = Callable[[Numbers, Numbers], Numbers]
"""From values `(case, column)` and weights `(resample, case)` to `(resample,)`. Weights say how often a case was drawn,
so that a statistic of weighted sums is computed for all resamples in one matrix product."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its interval.

    `low` and `high` are `None` without an interval; `n` is the number of cases, `patients` that of resampled units.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    patients: int


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), without continuity correction.

    Raises
    ------
    ValueError
        `n` is not positive, or `successes` lies outside 0 to `n`.

    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a proportion")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def weighted_mean(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: mean of the first column with each row of weights."""
    result: Numbers = weights @ values[:, 0] / weights.sum(axis=1)
    return result


def total(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: sum of the first column with each row of weights."""
    result: Numbers = weights @ values[:, 0]
    return result


def mean_deviation(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: mean absolute deviation of column 0 from its mean, the error of always predicting the mean."""
    gaps = np.abs(values[:, 0] - weighted_mean(values, weights)[:, None])
    result: Numbers = (gaps * weights).sum(axis=1) / weights.sum(axis=1)
    return result


def bootstrap_patients(
    values: npt.ArrayLike,
    patients: Sequence[str],
    statistic: Statistic = weighted_mean,
    *,
    n: int,
    seed: int,
    confidence: float = 0.95,
    strata: Sequence[str] | None = None,
) -> Estimate:
    """Percentile bootstrap over patients, with all their cases, within strata (Efron and Tibshirani 1993).

    Parameters
    ----------
    values
        `(case,)` or `(case, column)`, finite; leave undefined cases out before and state their number.
    patients
        Patient of each case; two breasts or exams of a patient are drawn together.
    statistic
        One estimate per resample; NaN if it is undefined for a resample.
    n
        Number of resamples, 2,000 or more for a report.
    seed
        Seed of the draws; the order of the cases does not matter.
    confidence
        Nominal coverage, 0 to 1.
    strata
        Centre of each case; every resample has the same number of patients per centre.

    Returns
    -------
    The statistic of the data with its interval. The value is `None` without cases. The interval is `None` with a single
    patient, or if the statistic is undefined in one of ten resamples or more.

    Raises
    ------
    ValueError
        Lengths differ, a value is not finite, or a patient is in two strata.

    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    groups = ["" for _ in patients] if strata is None else list(strata)
    if not len(table) == len(patients) == len(groups):
        raise ValueError(f"{len(table)} values, {len(patients)} patients and {len(groups)} strata are not one table")
    if not np.isfinite(table).all():
        raise ValueError("a value is not finite: leave undefined cases out and state their number")
    if not len(table):
        return Estimate(None, None, None, 0, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(table, np.ones((1, len(table))))[0])
        names, weights = draw_patients(patients, groups, n, seed)
        drawn = statistic(table, weights)
    defined = drawn[np.isfinite(drawn)]
    whole = value if math.isfinite(value) else None
    if names < 2 or whole is None or len(defined) <= 0.9 * n:  # noqa: PLR2004 - a single patient has no spread
        return Estimate(whole, None, None, len(table), names)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(whole, float(low), float(high), len(table), names)


def draw_patients(patients: Sequence[str], strata: Sequence[str], n: int, seed: int) -> tuple[int, Numbers]:
    """Number of patients, and how often each case is drawn, `(resample, case)`, for `bootstrap_patients`.

    Raises
    ------
    ValueError
        A patient is in two strata.

    """
    stratum_of: dict[str, str] = {}
    for patient, stratum in zip(patients, strata, strict=True):
        if stratum_of.setdefault(patient, stratum) != stratum:
            raise ValueError("a patient stands in two strata: patients are the unit, and each has one centre")
    # Sorted, so that the draws do not depend on the order of the table.
    ordered = sorted(stratum_of, key=lambda name: (stratum_of[name], name))
    rng = np.random.default_rng(seed)
    sizes = [len(list(group)) for _, group in itertools.groupby(ordered, stratum_of.__getitem__)]
    counts = np.hstack([rng.multinomial(size, np.full(size, 1 / size), size=n) for size in sizes]).astype(np.float64)
    column = {name: index for index, name in enumerate(ordered)}
    return len(ordered), counts[:, [column[patient] for patient in patients]]
