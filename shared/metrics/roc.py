"""Area under the ROC curve with DeLong's interval and paired test; one class gives no figure, never 0.5.

The patient must be the unit: with two breasts or exams of one patient DeLong's variance is too small, and the interval
comes from `intervals.bootstrap_patients` with `weighted_auc`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from shared.metrics.intervals import Estimate, Numbers

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PairedTest:
    """DeLong's test of two scores on the same cases: `a - b`, its interval, z and the two-sided p."""

    difference: float
    low: float
    high: float
    z: float
    p: float


def delong(truth: npt.ArrayLike, score: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """AUC with DeLong's interval (DeLong 1988, Biometrics 44:837), cut at 0 and 1 as R's pROC does.

    Parameters
    ----------
    truth
        `(case,)` of 0 and 1; a case is a patient.
    score
        `(case,)`, finite; higher means more likely 1. Equal scores count one half.

    Returns
    -------
    Without a positive or without a negative there is no value; with one of either there is no interval.

    Raises
    ------
    ValueError
        Lengths differ, the truth is not 0 or 1, or a score is not finite.

    """
    positive, values = _checked(truth, [score])
    n = len(positive)
    if positive.all() or not positive.any():
        return Estimate(None, None, None, n, n)
    area, covariance = _areas(positive, values)
    if not np.isfinite(covariance).all():
        return Estimate(float(area[0]), None, None, n, n)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * math.sqrt(covariance[0, 0])
    return Estimate(float(area[0]), max(0.0, float(area[0]) - half), min(1.0, float(area[0]) + half), n, n)


def delong_test(
    truth: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95
) -> PairedTest | None:
    """Test whether two scores of the same cases have different AUCs; z is positive where `a` is better.

    Returns
    -------
    `None` with fewer than two positives or negatives, or where neither score has any spread and they differ. Scores
    that order the cases alike have p = 1.

    Raises
    ------
    ValueError
        As `delong`.

    """
    positive, values = _checked(truth, [a, b])
    if min(positive.sum(), (~positive).sum()) < 2:  # noqa: PLR2004 - one case has no spread
        return None
    area, covariance = _areas(positive, values)
    difference = float(area[0] - area[1])
    error = math.sqrt(max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    if error < _ROUNDING:
        # Without spread equality is all that can be told.
        return PairedTest(0.0, 0.0, 0.0, 0.0, 1.0) if abs(difference) < _ROUNDING else None
    z, reach = difference / error, float(stats.norm.ppf(0.5 + confidence / 2)) * error
    return PairedTest(difference, difference - reach, difference + reach, z, float(2 * stats.norm.sf(abs(z))))


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC from its size and the counts alone (Radiology 1982;143:29-36, equation 2)."""
    both_up, both_down = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (both_up - area**2) + (negatives - 1) * (both_down - area**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def weighted_auc(values: Numbers, weights: Numbers) -> Numbers:
    """AUC under each row of weights, for `bootstrap_patients`; NaN where a resample has a single class.

    Parameters
    ----------
    values
        `(case, 2)`: truth (0 or 1) and score.
    weights
        `(resample, case)`: how often each case was drawn.

    """
    truth, score = values[:, 0] > 0, values[:, 1]
    # Of each pair the share in which the positive scores higher; equal scores count one half.
    wins = (score[truth][:, None] > score[~truth][None]) + 0.5 * (score[truth][:, None] == score[~truth][None])
    up, down = weights[:, truth], weights[:, ~truth]
    pairs = up.sum(axis=1) * down.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = np.einsum("ri,ij,rj->r", up, wins, down, optimize=True) / pairs
    return found


def _checked(
    truth: npt.ArrayLike, scores: Sequence[npt.ArrayLike]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    given = np.asarray(truth)
    values = np.stack([np.asarray(score, np.float64) for score in scores])
    if given.ndim != 1 or values.shape[1:] != given.shape:
        raise ValueError(f"truth {given.shape} and scores {values.shape[1:]} are not one column a case")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("the truth must be 0 or 1: leave cases without a label out and state their number")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    return given.astype(np.bool_), values


def _areas(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AUCs `(score,)` and their covariance, by mid-ranks (Sun and Xu 2014, IEEE Signal Process Lett 21:1389)."""
    up, down = int(positive.sum()), int((~positive).sum())
    everyone = stats.rankdata(scores, axis=1)
    # Placement: of a positive, the share of negatives below it; of a negative, the share of positives above it.
    above = (everyone[:, positive] - stats.rankdata(scores[:, positive], axis=1)) / down
    below = 1.0 - (everyone[:, ~positive] - stats.rankdata(scores[:, ~positive], axis=1)) / up
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = [np.atleast_2d(_covariance(part)) / part.shape[1] for part in (above, below)]
    return above.mean(axis=1), spread[0] + spread[1]


def _covariance(placements: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    count = placements.shape[1]
    if count < 2:  # noqa: PLR2004 - one case has no spread
        return np.full((len(placements),) * 2, np.nan)
    centred = placements - placements.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / (count - 1))
