"""From a classifier's per-case table to figures with intervals.

The table is long, one row a case, arm and label: `case, patient, centre, arm, model_hash, label, truth, score`. Every
figure comes from it alone, so that it can be computed again to the same digits. Patients are drawn, never cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from server.run_folder.results import ResultRow, Role
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.agreement import LIMITS
from shared.metrics.calibration import calibration
from shared.metrics.intervals import Estimate, Numbers, Statistic, bootstrap_patients, mean_deviation, weighted_mean
from shared.metrics.operating_point import count
from shared.metrics.roc import delong, weighted_auc
from shared.metrics.score_sums import KI67, LABELS, SUBTYPES
from shared.reproducibility import derive_seed

COLUMNS = ("case", "patient", "centre", "arm", "model_hash", "label", "truth", "score")

Figure = tuple[str, str, Estimate]  # metric, unit, value with interval


def classification_rows(
    table: pd.DataFrame,
    config: EvaluationConfig,
    *,
    task: str,
    seed: int,
    role: Role,
    thresholds: Mapping[str, float | None],
    oracle: Mapping[str, float] | None = None,
) -> list[ResultRow]:
    """Summarise every arm, centre and model of the table, a label at a time.

    A label that an arm never answers has no row; one that a centre lacks has no value and `n` 0. With a single class
    the AUC has no value. Bootstrapped over patients: AUC, Brier score, everything about Ki-67. Wilson's, over cases:
    sensitivity, specificity, PPV, NPV, whose `n` is their denominator. `auc_<label>_delong` stands where every patient
    has one case. `mae_ki67_of_mean` is the error of always answering the mean of these very truths: the floor to beat
    (the table does not know the training cases' mean).

    Parameters
    ----------
    table
        Long table; see the module.
    config
        Resamples and confidence.
    task, seed, role
        Written into the rows; the seed also fixes the draws.
    thresholds
        By label, frozen before these cases were seen; `None` or absent leaves the operating point out. They hold for
        every arm in the table: give arms with thresholds of their own apart.
    oracle
        AUC of the best possible classifier by label and `macro`; written for each centre as arm `oracle`, without
        interval and with `n` 0, as no case of the table was asked.

    Raises
    ------
    RunError
        The table is not such a table; the message says in what.

    """
    check_scores(table)
    rows = []
    # Sorted, so that the order of the table cannot reach the last digit of a sum.
    for key, cases in table.sort_values("case").groupby(["arm", "centre", "model_hash"], sort=True):
        arm, centre, model_hash = (str(part) for part in key)
        answered = set(table.loc[table["arm"] == arm, "label"])
        draw = Draw(config, derive_seed(seed, "bootstrap", centre))
        rows += [
            _row(figure, task=task, arm=arm, seed=seed, centre=centre, role=role, model_hash=model_hash)
            for figure in _figures(cases, answered, thresholds, draw)
        ]
    labels = set(table["label"])
    names = [name for name in LABELS if name in labels] + (["macro"] if labels & set(SUBTYPES) else [])
    rows += [
        _row((f"auc_{name}", "1", Estimate(oracle[name], None, None, 0, 0)),
             task=task, arm="oracle", seed=seed, centre=str(centre), role=role, model_hash="")
        for centre in sorted(set(table["centre"]))
        for name in names
        if oracle is not None and name in oracle
    ]  # fmt: skip
    return rows


@dataclass(frozen=True, slots=True)
class Draw:
    """The bootstrap of one group of rows; the same patients give the same resamples, whatever the arm or label."""

    config: EvaluationConfig
    seed: int

    def __call__(self, cases: pd.DataFrame, values: Numbers, statistic: Statistic) -> Estimate:
        """Interval of a statistic of `values`, a row a case; patients are drawn within centres."""
        return bootstrap_patients(
            values,
            cases["patient"].tolist(),
            statistic,
            n=self.config.bootstrap,
            seed=self.seed,
            confidence=self.config.confidence,
            strata=cases["centre"].tolist(),
        )


def _figures(
    cases: pd.DataFrame, answered: set[str], thresholds: Mapping[str, float | None], draw: Draw
) -> Iterator[Figure]:
    for label in LABELS:
        if label in answered:
            yield from _binary(label, cases[cases["label"] == label], thresholds.get(label), draw)
    if answered & set(SUBTYPES):
        yield "auc_macro", "1", draw(*by_subtype(cases[cases["label"].isin(SUBTYPES)], ["score"]), macro_area)
    if KI67 in answered:
        chosen = cases[cases["label"] == KI67]
        values = chosen[["score", "truth"]].to_numpy(np.float64)
        yield "mae_ki67", "%", draw(chosen, np.abs(values[:, 0] - values[:, 1]), weighted_mean)
        yield "mae_ki67_of_mean", "%", draw(chosen, values[:, 1], mean_deviation)
        for name, part in LIMITS.items():
            yield f"{name}_ki67", "%", draw(chosen, values, part)


def _binary(label: str, cases: pd.DataFrame, threshold: float | None, draw: Draw) -> Iterator[Figure]:
    values, confidence = cases[["truth", "score"]].to_numpy(np.float64), draw.config.confidence
    truth, score = values.T
    n, patients = len(cases), cases["patient"].nunique()
    yield f"auc_{label}", "1", draw(cases, values, weighted_auc)
    if n == patients:
        yield f"auc_{label}_delong", "1", delong(truth, score, confidence)
    yield f"prevalence_{label}", "1", Estimate(float(truth.mean()) if n else None, None, None, n, patients)
    if threshold is not None:
        for name, share in count(truth, score, threshold).estimates(confidence).items():
            yield f"{name}_{label}", "1", share
    yield f"brier_{label}", "1", draw(cases, (score - truth) ** 2, weighted_mean)
    found = calibration(truth, score) if n else None
    measured = (found.ece, found.slope, found.intercept) if found else (None, None, None)
    for name, value in zip(("ece", "calibration_slope", "calibration_intercept"), measured, strict=True):
        yield f"{name}_{label}", "1", Estimate(value, None, None, n, patients)


def _row(figure: Figure, **who: Any) -> ResultRow:
    metric, unit, found = figure
    return ResultRow(
        metric=metric, unit=unit, value=found.value, ci_low=found.low, ci_high=found.high, n=found.n, **who
    )


def by_subtype(cases: pd.DataFrame, scores: list[str]) -> tuple[pd.DataFrame, Numbers]:
    """Cases, and `(case, subtype x (truth, *scores))`; the truth of a subtype that a case lacks is -1."""
    columns = ("truth", *scores)
    parts = cases.pivot_table([*columns], ["centre", "patient", "case"], "label", aggfunc="first")
    order = [(column, name) for name in SUBTYPES for column in columns]
    return parts.index.to_frame(index=False), parts.reindex(columns=order).fillna(-1.0).to_numpy(np.float64)


def macro_area(values: Numbers, weights: Numbers, score: int = 1, columns: int = 2) -> Numbers:
    """Mean AUC of the four subtypes, read from column `score` of each subtype's `columns`."""
    areas = []
    for part in np.split(values, values.shape[1] // columns, axis=1):
        known = part[:, 0] >= 0
        areas.append(weighted_auc(part[known][:, [0, score]], weights[:, known]))
    result: Numbers = np.mean(areas, axis=0)
    return result


def check_scores(table: pd.DataFrame) -> None:
    """Refuse what is not such a table.

    Raises
    ------
    RunError
        The message says in what; it names no case.

    """
    if missing := set(COLUMNS) - set(table.columns):
        raise RunError(f"the per-case table lacks {', '.join(sorted(missing))}")
    if unknown := set(table["label"]) - {*LABELS, KI67}:
        raise RunError(f"the per-case table has unknown labels: {', '.join(sorted(map(str, unknown)))}")
    if table[list(COLUMNS)].isna().to_numpy().any():
        raise RunError("the per-case table has an empty cell: a case without the label has no row")
    figures, binary = table[["truth", "score"]].to_numpy(np.float64), (table["label"] != KI67).to_numpy()
    if not np.isfinite(figures).all():
        raise RunError("the per-case table holds a truth or score that is not finite")
    if not (np.isin(figures[binary, 0], (0, 1)).all() and ((figures[binary] >= 0) & (figures[binary] <= 1)).all()):
        raise RunError("the per-case table holds a truth other than 0 or 1, or a score that is no probability")
    if table.duplicated(["arm", "centre", "model_hash", "case", "label"]).any():
        raise RunError("the per-case table holds one model's answer for one case and label twice")
    for unit, column in ((["case", "label"], "truth"), (["case"], "patient"), (["patient"], "centre")):
        if table[[*unit, column]].drop_duplicates().duplicated(unit).any():
            raise RunError(f"the per-case table holds two values of '{column}' for one {' and '.join(unit)}")
