"""Tests of one arm's AUC against another's on the same cases, from a per-case table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from server.run_folder.predictions import check_table
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.intervals import Estimate, Numbers, bootstrap_patients
from shared.metrics.metric import Metric
from shared.metrics.multiple_testing import adjust_p_values
from shared.metrics.roc import delong_test
from shared.reproducibility import derive_seed

COMPARISON = ("arm", "metric", "n", "difference", "low", "high", "p", "p_holm")

_ROUNDING = 1e-12


def compare_arms(
    table: pd.DataFrame, reference_arm: str, metrics: Sequence[Metric], config: EvaluationConfig, *, seed: int = 0
) -> pd.DataFrame:
    """Compare the AUCs of each other arm with the reference arm's, on the cases that both answered.

    Where every patient has one case: DeLong's paired test. Otherwise the paired bootstrap of patients within centres,
    and p from its interval's width (Altman and Bland 2011, BMJ 343:d2304). A mean over labels has the paired bootstrap
    and no p: it sums up tests that stand above it. Holm's family is every p of the result, so ask for those arms that
    the question is about.

    Parameters
    ----------
    table
        Per-case table, one model for each arm.
    reference_arm
        The arm that the others are compared with.
    metrics
        AUCs of single labels, and of means over labels.
    config, seed
        Of the bootstrap.

    Returns
    -------
    One row for each arm and metric, `COMPARISON`. The difference is the arm's AUC minus the reference's; NaN where a
    figure does not exist.

    Raises
    ------
    RunError
        The table is not such a table, lacks the reference arm, or has a case's answer twice in one arm.

    """
    check_table(table)
    if reference_arm not in set(table["arm"]):
        raise RunError(f"no predictions of arm '{reference_arm}' to compare with")
    if table.duplicated(["arm", "case"]).any():
        raise RunError("an arm holds several models' answers for one case: choose one model for each arm")
    draw = derive_seed(seed, "comparison")
    by_arm = {arm: cases.set_index("case").sort_index() for arm, cases in table.groupby("arm")}
    reference = by_arm.pop(reference_arm)
    rows = []
    for arm, other in sorted(by_arm.items()):
        both = reference.index.intersection(other.index)
        for metric in sorted(metrics, key=lambda metric: len(metric.labels)):
            ours, theirs = metric.values(other.loc[both]), metric.values(reference.loc[both])
            known = np.flatnonzero(np.isfinite(ours).all(axis=1) & np.isfinite(theirs).all(axis=1))
            if len(known):
                cases = reference.loc[both].iloc[known]
                rows.append((arm, metric.name, *_compared(metric, cases, ours[known], theirs[known], config, draw)))
    kinds = {"n": "int64"} | dict.fromkeys(("difference", "low", "high", "p"), "float64")
    result = pd.DataFrame(rows, columns=list(COMPARISON[:-1])).astype(kinds)
    return result.assign(p_holm=adjust_p_values(result["p"].to_numpy(np.float64), "holm"))


def _compared(
    metric: Metric, cases: pd.DataFrame, ours: Numbers, theirs: Numbers, config: EvaluationConfig, seed: int
) -> tuple[int, float | None, float | None, float | None, float | None]:
    """Cases, difference of two AUCs, its bounds and p."""
    single, unique = len(metric.labels) == 1, cases["patient"].is_unique
    if single and unique:
        test = delong_test(ours[:, 0], ours[:, 1], theirs[:, 1], config.confidence)
        if test:
            return len(cases), test.difference, test.low, test.high, test.p
    estimate = _bootstrap(metric, cases, ours, theirs, config, seed)
    value, low, high = estimate.value, estimate.low, estimate.high
    if not single:
        return len(cases), value, low, high, None
    if unique or value is None or low is None or high is None:
        # One case of a class: a difference without a spread.
        return len(cases), value, None, None, None
    error = (high - low) / (2 * stats.norm.ppf(0.5 + config.confidence / 2))
    if error > _ROUNDING:
        return len(cases), value, low, high, float(2 * stats.norm.sf(abs(value) / error))
    return len(cases), value, low, high, 1.0 if abs(value) < _ROUNDING else None


def _bootstrap(
    metric: Metric, cases: pd.DataFrame, ours: Numbers, theirs: Numbers, config: EvaluationConfig, seed: int
) -> Estimate:
    width = ours.shape[1]

    def difference(values: Numbers, weights: Numbers) -> Numbers:
        return metric.statistic(values[:, :width], weights) - metric.statistic(values[:, width:], weights)

    return bootstrap_patients(
        np.hstack([ours, theirs]),
        cases["patient"].tolist(),
        difference,
        n=config.bootstrap,
        seed=seed,
        confidence=config.confidence,
        strata=cases["centre"].tolist(),
    )
