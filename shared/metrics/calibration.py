"""Calibration of probabilities: Brier score, expected calibration error, calibration slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from shared.metrics.intervals import Numbers

_NEAREST = 1e-6  # distance of probabilities from 0 and 1 before the logit, which would be infinite there
_FEWEST = 10  # least cases of the rarer class: with fewer the slope is meaningless (Van Calster 2016 asks for 200)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of probabilities on one set of cases.

    Attributes
    ----------
    brier
        Mean squared difference of probability and truth (Brier 1950); 0.25 if all probabilities are 0.5.
    ece
        Expected calibration error over `bins` of equal width (Naeini 2015).
    slope, intercept
        Of the logistic regression of the truth on the logits of the probabilities; the intercept is that with a slope
        of 1 (Cox 1958; "calibration-in-the-large"). Ideal are 1 and 0; a slope below 1 means that probabilities are too
        extreme. `None` with too few cases of a class, or if the classes are separated and no finite slope exists.

    """

    brier: float
    ece: float
    slope: float | None
    intercept: float | None


def calibration(truth: npt.ArrayLike, probability: npt.ArrayLike, *, bins: int = 10) -> Calibration:
    """Measure calibration of the probability of class 1, `(case,)`, against a truth of 0 or 1, `(case,)`.

    Raises
    ------
    ValueError
        There are no cases, lengths differ, or a value is out of range.

    """
    y, p = np.asarray(truth, np.float64), np.asarray(probability, np.float64)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise ValueError(f"truth {y.shape} and probabilities {p.shape} are not one value per case")
    if not (np.isin(y, (0, 1)).all() and ((p >= 0) & (p <= 1)).all()):
        raise ValueError("the truth must be 0 or 1 and probabilities lie from 0 to 1")
    slope = intercept = None
    if min(y.sum(), len(y) - y.sum()) >= _FEWEST:
        logit = special.logit(np.clip(p, _NEAREST, 1 - _NEAREST))
        slope = _slope(y, logit)
        intercept = _regression(y, np.ones((len(y), 1)), logit)[0]
    return Calibration(float(np.mean((p - y) ** 2)), _ece(y, p, bins), slope, intercept)


def _ece(y: Numbers, p: Numbers, bins: int) -> float:
    # A bin includes its lower edge and not its upper one; the last bin also includes 1.
    place = np.minimum((p * bins + 1e-9).astype(np.int64), bins - 1)
    gaps = np.abs(np.bincount(place, p, bins) - np.bincount(place, y, bins))
    return float(gaps.sum() / len(y))


def _slope(y: Numbers, logit: Numbers) -> float | None:
    if logit[y > 0].min() >= logit[y == 0].max() or logit[y > 0].max() <= logit[y == 0].min():
        return None
    return _regression(y, np.column_stack([np.ones_like(logit), logit]), np.zeros_like(logit))[1]


def _regression(y: Numbers, terms: Numbers, offset: Numbers) -> list[float]:
    """Coefficients of an unpenalised logistic regression on `terms` `(case, coefficient)` plus a fixed `offset`."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    fitted = GLM(y, terms, family=Binomial(), offset=offset).fit(tol=1e-13)
    return [float(value) for value in fitted.params]
