"""Rows of `results.csv`: every model's figures at one centre, and each seed's at all held-out centres together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from server.evaluation.metric_rows import table_rows
from server.evaluation.study_statistics.estimates import figure_of
from server.evaluation.study_statistics.resamples import ALL, EXTERNAL, Panel
from server.run_folder.arms import LOCAL
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.metrics.metric import Metric


def model_rows(
    predictions: pd.DataFrame, metrics: Sequence[Metric], config: EvaluationConfig, task: str
) -> list[ResultRow]:
    """Summarise each model at each centre as a run does.

    A local model that several folds share is evaluated on the same test cases in each: it has its rows once.
    """
    rows: dict[tuple[object, ...], ResultRow] = {}
    key: Any
    for key, cases in predictions.groupby(["role", "held_out", "seed"], sort=True):
        role, _, seed = key
        for row in table_rows(cases, metrics, config, task=task, seed=int(seed), role=role):
            rows.setdefault((role, seed, row.arm, row.model_hash, row.centre, row.metric), row)
    return list(rows.values())


def together_rows(panel: Panel, metrics: Sequence[Metric], config: EvaluationConfig, task: str) -> Iterator[ResultRow]:
    """Each arm and seed at all held-out centres together: as many models as folds, so the row has no hash."""
    for metric in metrics:
        for arm in panel.arms:
            if arm == LOCAL:
                continue
            for sample in panel.samples(metric, arm):
                figure = figure_of(panel, metric, [sample])
                if figure is None:
                    continue
                low, high = figure.interval(config.confidence)
                yield ResultRow(
                    task=task, arm=arm, seed=sample.seed, centre=ALL, role=EXTERNAL, metric=metric.name,
                    unit=metric.unit, value=_or_none(figure.value), ci_low=_or_none(low), ci_high=_or_none(high),
                    n=figure.n, model_hash="",
                )  # fmt: skip


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
