"""From cases to rows of `results.csv`: each metric of a task as it is declared, with its interval.

The external centre's rows come from its per-case table alone, so that they can be computed again to the same digits;
training sites' from the sums they sent.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from server.run_folder.arms import FEDERATED, ORACLE
from server.run_folder.predictions import check_table
from server.run_folder.results import ResultRow, Role
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.intervals import Estimate, Numbers, bootstrap_patients, wilson
from shared.metrics.metric import Metric
from shared.metrics.roc import delong
from shared.metrics.sums import Sums
from shared.reproducibility import derive_seed
from shared.tasks.task import Task


def table_rows(
    table: pd.DataFrame, metrics: Sequence[Metric], config: EvaluationConfig, *, task: str, seed: int, role: Role
) -> list[ResultRow]:
    """Summarise every arm, centre and model of a per-case table; see `predictions.case_table`.

    A case without a figure is left out of it; the row's `n` says how many cases it rests on. A metric whose columns the
    table lacks, whose label an arm never answers at any centre, or whose threshold its model lacks, has no row.
    Bootstraps draw patients within centres, never cases; the same patients give the same resamples, whatever the arm or
    metric: `seed` fixes the draws. `RunError` where the table is not such a table, or holds a truth or a score that
    cannot be.
    """
    check_table(table)
    _check_scores(table, {label for metric in metrics if metric.sent == "histogram" for label in metric.labels})
    # At whatever centre: one that lacks a label says so, with no case behind the figure.
    answered = {
        str(arm): [item for item in metrics if _is_answered(item, cases)] for arm, cases in table.groupby("arm")
    }
    rows = []
    for (arm, centre, model_hash), cases in table.sort_values("case").groupby(
        ["arm", "centre", "model_hash"], sort=True
    ):
        for metric in answered[str(arm)]:
            estimate = estimate_of(metric, cases, config, derive_seed(seed, "bootstrap", str(centre)))
            if estimate is not None:
                rows.append(
                    _row(metric, estimate, task=task, arm=arm, seed=seed, centre=centre, role=role, model=model_hash)
                )
    return rows


def estimate_of(metric: Metric, cases: pd.DataFrame, config: EvaluationConfig, seed: int) -> Estimate | None:
    """A metric of some cases with its interval; None where it does not apply to them."""
    frozen = [name for name in metric.columns if name.startswith("threshold_")]
    if not set(metric.columns) <= set(cases.columns) or not cases[frozen].notna().any().all():
        return None
    values = metric.values(cases)
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    cases, values = cases.iloc[known], values[known]
    if not metric.applies(values):
        return None
    if not len(values):
        return Estimate(None, None, None, 0, 0)
    patients = cases["patient"].nunique()
    if metric.interval == "bootstrap":
        return bootstrap_patients(
            values,
            cases["patient"].tolist(),
            metric.statistic,
            n=config.bootstrap,
            seed=seed,
            confidence=config.confidence,
            strata=cases["centre"].tolist(),
        )
    if metric.interval == "delong":
        # Its variance holds where the patient is the unit.
        return delong(values[:, 0], values[:, 1], config.confidence) if patients == len(cases) else None
    value = _value(metric, values)
    low = high = None
    if metric.interval == "wilson":
        low, high = wilson(int(values.sum()), len(values), config.confidence)
    return Estimate(value, low, high, len(values), patients)


def oracle_rows(
    areas: Mapping[str, float], metrics: Sequence[Metric], *, task: str, seed: int, centre: str
) -> Iterator[ResultRow]:
    """AUC of the best possible classifier by label and `macro`, without interval and with `n` 0: no case was asked."""
    for metric in metrics:
        label = metric.name.removeprefix("auc_")
        if label != metric.name and label in areas:
            yield _row(
                metric, Estimate(areas[label], None, None, 0, 0), task=task, arm=ORACLE, seed=seed, centre=centre,
                role="external", model="",
            )  # fmt: skip


def sum_rows(
    sums_by_site: Mapping[str, Sums], task: Task, config: EvaluationConfig, *, seed: int, role: Role, model_hash: str
) -> list[ResultRow]:
    """Summarise a federated model from the sums that sites sent: each site, and all together as centre `all`."""
    named = dict(sums_by_site)
    if len(named) > 1:
        named["all"] = functools.reduce(operator.add, sums_by_site.values())
    return [
        _row(metric, estimate, task=task.name, arm=FEDERATED, seed=seed, centre=centre, role=role, model=model_hash)
        for centre, sums in named.items()
        for metric in task.metrics
        if (estimate := metric.estimate(sums, config.confidence)) is not None
    ]


def _check_scores(table: pd.DataFrame, labels: Iterable[str]) -> None:
    """Refuse truths of binary labels that are not 0 or 1, and scores that are no probabilities; empty cells may be."""
    for label in sorted(labels):
        truth, score = (
            table.get(f"{part}_{label}", pd.Series(dtype="float64")).dropna() for part in ("truth", "score")
        )
        if not truth.isin((0, 1)).all() or not score.between(0, 1).all():
            raise RunError(f"the per-case table holds a truth of '{label}' other than 0 or 1, or no probability")


def _is_answered(metric: Metric, cases: pd.DataFrame) -> bool:
    """Whether an arm answers one of the metric's labels at all."""
    scores = [name for name in metric.columns if name.startswith("score_")]
    return not scores or bool(cases.reindex(columns=scores).notna().to_numpy().any())


def _value(metric: Metric, values: Numbers) -> float | None:
    value = float(metric.statistic(values, np.ones((1, len(values))))[0])
    return value if np.isfinite(value) else None


def _row(
    metric: Metric, estimate: Estimate, *, task: str, arm: object, seed: int, centre: object, role: Role, model: object
) -> ResultRow:
    return ResultRow(
        task=task, arm=str(arm), seed=seed, centre=str(centre), role=role, metric=metric.name, unit=metric.unit,
        value=estimate.value, ci_low=estimate.low, ci_high=estimate.high, n=estimate.n, model_hash=str(model),
    )  # fmt: skip
