"""Federated against every other arm, on the same cases: differences with intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from server.evaluation.study_statistics.estimates import SeedMean, difference_of, paired
from server.evaluation.study_statistics.resamples import ALL, Panel, Sample
from server.run_folder.arms import FEDERATED
from shared.metrics.intervals import Numbers
from shared.metrics.metric import Metric
from shared.reproducibility import derive_seed

_PERMUTATIONS = 9999
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class ArmFigure:
    """An arm's figure at a centre, or federated minus that arm with the test's `p`, NaN where there is none."""

    metric: Metric
    arm: str
    centre: str
    figure: SeedMean
    p: float = np.nan


def contrasts_of(panel: Panel, metrics: Sequence[Metric], confidence: float) -> list[ArmFigure]:
    """Every compared metric, at all held-out centres together and at each, federated minus every other arm."""
    contrasts = []
    for metric in (metric for metric in metrics if "compared" in metric.shown):
        ours = panel.samples(metric, FEDERATED)
        theirs = {arm: panel.samples(metric, arm) for arm in panel.arms if arm != FEDERATED}
        for centre in (ALL, *panel.centres):
            keep = panel.at_centre(centre)
            for arm, samples in theirs.items():
                tested = contrast(panel, metric, ours, samples, keep, confidence)
                if tested:
                    contrasts.append(ArmFigure(metric, arm, centre, *tested))
    return contrasts


def contrast(
    panel: Panel,
    metric: Metric,
    ours: Sequence[Sample],
    theirs: Sequence[Sample],
    keep: npt.NDArray[np.bool_],
    confidence: float,
) -> tuple[SeedMean, float] | None:
    """Difference and p on the cases to `keep`; `None` without a common one.

    A mean over cases is tested by flipping the signs of patients, anything else from the width of the paired bootstrap
    interval (Altman and Bland 2011, BMJ 343:d2304).
    """
    pairs = paired([sample.only(keep) for sample in ours], [sample.only(keep) for sample in theirs])
    figure = difference_of(panel, metric, pairs)
    if figure is None:
        return None
    return figure, sign_flip(shares(panel, pairs)) if metric.is_mean else p_of_width(figure, confidence)


def shares(panel: Panel, pairs: Sequence[tuple[Sample, Sample]]) -> Numbers:
    """What each patient adds to a difference of means: `(patient,)`, by name; their sum is the difference."""
    by_case = np.zeros(len(panel.cases))
    for ours, theirs in pairs:
        by_case[ours.at] += (ours.values[:, 0] - theirs.values[:, 0]) / (len(ours.at) * len(pairs))
    asked = np.unique(np.concatenate([ours.at for ours, _ in pairs]))
    patients, place = np.unique(panel.cases["patient"].to_numpy(str)[asked], return_inverse=True)
    return np.bincount(place, by_case[asked], len(patients)).astype(np.float64)


def sign_flip(parts: Numbers) -> float:
    """Two-sided p that the parts `(patient,)` sum to zero: their signs are flipped, all ways where these are few.

    Under the null hypothesis a patient's two arms can be swapped. With one patient there is no test: NaN.
    """
    if len(parts) < 2:  # noqa: PLR2004 - one patient cannot tell
        return np.nan
    test = stats.permutation_test(
        (parts,),
        lambda values, axis: values.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        batch=2000,
        rng=np.random.default_rng(derive_seed(0, "sign-flip")),
    )
    return float(test.pvalue)


def p_of_width(figure: SeedMean, confidence: float) -> float:
    """Two-sided p of a difference from the width of its interval; NaN without an interval."""
    low, high = figure.interval(confidence)
    error = (high - low) / (2 * stats.norm.ppf(0.5 + confidence / 2))
    if error > _ROUNDING:
        return float(2 * stats.norm.sf(abs(figure.value) / error))
    return 1.0 if abs(figure.value) < _ROUNDING and error == error else np.nan  # noqa: PLR0124 - NaN has no width
