"""Tests of one arm's AUC against another's on the same cases, from the long table of `classified`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from server.evaluation.classification_rows import Draw, by_subtype, check_scores, macro_area
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.intervals import Numbers
from shared.metrics.multiple_testing import adjusted
from shared.metrics.roc import delong_test, weighted_auc
from shared.metrics.score_sums import LABELS, SUBTYPES
from shared.reproducibility import derive_seed

COMPARISON = ("arm", "label", "n", "difference", "low", "high", "p", "p_holm")

_ROUNDING = 1e-12


def compare_arms(table: pd.DataFrame, reference_arm: str, config: EvaluationConfig, *, seed: int = 0) -> pd.DataFrame:
    """Compare the AUC of each other arm with the reference arm's, on the cases that both answered.

    Where every patient has one case: DeLong's paired test. Otherwise the paired bootstrap of patients within centres,
    and p from its interval's width (Altman and Bland 2011, BMJ 343:d2304). The row `macro` has the paired bootstrap of
    the mean over the four subtypes and no p: it sums up tests that stand above it. Holm's family is every p of the
    result, so ask for those arms that the question is about.

    Returns
    -------
    One row an arm and label, `arm, label, n, difference, low, high, p, p_holm`. The difference is the arm's AUC minus
    the reference's; NaN where a figure does not exist. Ki-67 has no AUC and no row.

    Raises
    ------
    RunError
        The table is not such a table, lacks the reference arm, or has a case's answer twice in one arm.

    """
    check_scores(table)
    if reference_arm not in set(table["arm"]):
        raise RunError(f"no predictions of arm '{reference_arm}' to compare with")
    if table.duplicated(["arm", "case", "label"]).any():
        raise RunError("an arm holds several models' answers for one case: choose one model an arm")
    draw = Draw(config, derive_seed(seed, "comparison"))
    keys = ["centre", "patient", "case", "label", "truth"]
    reference = table.loc[table["arm"] == reference_arm, [*keys, "score"]]
    rows = []
    for arm in sorted(set(table["arm"]) - {reference_arm}):
        other = table.loc[table["arm"] == arm, [*keys, "score"]]
        pairs = other.merge(reference, on=keys, suffixes=("", "_reference")).sort_values("case", ignore_index=True)
        for label in LABELS:
            cases = pairs[pairs["label"] == label]
            if len(cases):
                rows.append((arm, label, len(cases), *_difference(cases, draw)))
        subtypes = pairs[pairs["label"].isin(SUBTYPES)]
        if len(subtypes):
            found = draw(*by_subtype(subtypes, ["score", "score_reference"]), _macro_difference)
            rows.append((arm, "macro", found.n, found.value, found.low, found.high, None))
    kinds = {"n": "int64"} | dict.fromkeys(("difference", "low", "high", "p"), "float64")
    result = pd.DataFrame(rows, columns=list(COMPARISON[:-1])).astype(kinds)
    return result.assign(p_holm=adjusted(result["p"].to_numpy(np.float64), "holm"))


def _macro_difference(values: Numbers, weights: Numbers) -> Numbers:
    return macro_area(values, weights, 1, 3) - macro_area(values, weights, 2, 3)


def _auc_difference(values: Numbers, weights: Numbers) -> Numbers:
    return weighted_auc(values[:, [0, 1]], weights) - weighted_auc(values[:, [0, 2]], weights)


def _difference(cases: pd.DataFrame, draw: Draw) -> tuple[float | None, float | None, float | None, float | None]:
    """Difference of two AUCs, its bounds and p."""
    values, confidence = cases[["truth", "score", "score_reference"]].to_numpy(np.float64), draw.config.confidence
    truth, score, reference = values.T
    test = delong_test(truth, score, reference, confidence) if cases["patient"].is_unique else None
    if test:
        return test.difference, test.low, test.high, test.p
    found = draw(cases, values, _auc_difference)
    if cases["patient"].is_unique or found.value is None or found.low is None or found.high is None:
        # One case of a class: a difference without a spread.
        return found.value, None, None, None
    error = (found.high - found.low) / (2 * stats.norm.ppf(0.5 + confidence / 2))
    if error > _ROUNDING:
        return found.value, found.low, found.high, float(2 * stats.norm.sf(abs(found.value) / error))
    return found.value, found.low, found.high, 1.0 if abs(found.value) < _ROUNDING else None
