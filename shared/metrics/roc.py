"""Area under the ROC curve with DeLong's interval and paired test; it does not exist (instead of 0.5) for one class.

Cases must be patients: with two breasts or exams of one patient, DeLong's variance is too small, and the interval
should be that of `intervals.bootstrap_patients` with `weighted_auc`.
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
    """DeLong's test of two scores on the same cases: difference `a - b`, its interval, z and two-sided p-value."""

    difference: float
    low: float
    high: float
    z: float
    p: float


def delong(truth: npt.ArrayLike, score: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """AUC with DeLong's interval (DeLong 1988, Biometrics 44:837), clipped to 0 and 1 as in R's pROC.

    The truth is 0 or 1, `(case,)`, and each case a patient; a higher score `(case,)` means that 1 is more likely, and
    equal scores count one half. There is no value without a positive or negative case, and no interval with a single
    one.

    Raises
    ------
    ValueError
        Lengths differ, the truth is not 0 or 1, or a score is not finite.

    """
    positive, values = _check_scores(truth, [score])
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

    It is `None` with fewer than two positives or negatives, or if neither score has a variance and the areas differ.
    For scores with the same order of cases, p is 1.

    Raises
    ------
    ValueError
        As `delong`.

    """
    positive, values = _check_scores(truth, [a, b])
    if min(positive.sum(), (~positive).sum()) < 2:  # noqa: PLR2004 - one case has no spread
        return None
    area, covariance = _areas(positive, values)
    difference = float(area[0] - area[1])
    error = math.sqrt(max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    if error < _ROUNDING:
        # Without a variance, only equality can be decided.
        return PairedTest(0.0, 0.0, 0.0, 0.0, 1.0) if abs(difference) < _ROUNDING else None
    z, reach = difference / error, float(stats.norm.ppf(0.5 + confidence / 2)) * error
    return PairedTest(difference, difference - reach, difference + reach, z, float(2 * stats.norm.sf(abs(z))))


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC from its size and the counts alone (Radiology 1982;143:29-36, equation 2)."""
    both_up, both_down = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (both_up - area**2) + (negatives - 1) * (both_down - area**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def weighted_auc(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: AUC of truth (0 or 1) and score, `(case, 2)`, with each row of weights `(resample, case)`.

    NaN if a resample has a single class.
    """
    truth, score = values[:, 0] > 0, values[:, 1]
    # For each pair, 1 if the positive case has the higher score, one half if scores are equal.
    wins = (score[truth][:, None] > score[~truth][None]) + 0.5 * (score[truth][:, None] == score[~truth][None])
    up, down = weights[:, truth], weights[:, ~truth]
    pairs = up.sum(axis=1) * down.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: Numbers = np.einsum("ri,ij,rj->r", up, wins, down, optimize=True) / pairs
    return areas


def _check_scores(
    truth: npt.ArrayLike, scores: Sequence[npt.ArrayLike]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    given = np.asarray(truth)
    values = np.stack([np.asarray(score, np.float64) for score in scores])
    if given.ndim != 1 or values.shape[1:] != given.shape:
        raise ValueError(f"truth {given.shape} and scores {values.shape[1:]} are not one value per case")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("the truth must be 0 or 1: leave cases without a label out and state their number")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    return given.astype(np.bool_), values


def _areas(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AUCs `(score,)` and their covariance, from mid-ranks (Sun and Xu 2014, IEEE Signal Process Lett 21:1389)."""
    up, down = int(positive.sum()), int((~positive).sum())
    everyone = stats.rankdata(scores, axis=1)
    # Placement of a positive case: the share of negatives below it; of a negative case: the share of positives above.
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
