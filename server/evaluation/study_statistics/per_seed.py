"""Rows of `results.csv`: every model's figures at one centre, and each seed's at all held-out centres together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from server.evaluation.classification_rows import COLUMNS, classification_rows
from server.evaluation.metric_rows import external_rows
from server.evaluation.study_statistics.estimates import figure_of
from server.evaluation.study_statistics.metrics import Measure
from server.evaluation.study_statistics.resamples import ALL, EXTERNAL, Panel, Thresholds
from server.evaluation.tissue_rows import tissue_rows
from server.run_folder.results import ResultRow
from server.studies.design import LOCAL
from shared.config.sections import EvaluationConfig

_CELL = ["role", "held_out", "seed", "arm", "model_hash", "centre"]


def model_rows(
    predictions: pd.DataFrame, thresholds: Thresholds, config: EvaluationConfig, task: str
) -> list[ResultRow]:
    """Summarise each model at each centre as a run does: `external_rows`, `classification_rows`, `tissue_rows`.

    A local model that several folds share judges the same test cases in each: it has its rows once.
    """
    found: dict[tuple[object, ...], ResultRow] = {}
    key: Any
    for key, cases in predictions.groupby(_CELL, sort=True):
        role, _, seed, arm, model_hash, centre = key
        who = {"task": task, "seed": int(seed), "arm": str(arm), "centre": str(centre), "model_hash": str(model_hash)}
        for row in _rows(cases.sort_values("case", ignore_index=True), thresholds, config, who):
            named = row.model_copy(update={"role": role})
            found.setdefault((role, seed, arm, model_hash, centre, row.metric), named)
    return list(found.values())


def _rows(
    cases: pd.DataFrame, thresholds: Thresholds, config: EvaluationConfig, who: Mapping[str, Any]
) -> list[ResultRow]:
    if "label" not in cases:
        rows = external_rows if "dice" in cases else tissue_rows
        return rows(cases, config, **who)
    frozen = thresholds.get(who["model_hash"], {})
    return classification_rows(
        cases[[*COLUMNS]], config, task=who["task"], seed=who["seed"], role=EXTERNAL, thresholds=frozen
    )


def together_rows(
    panel: Panel, measures: Sequence[Measure], config: EvaluationConfig, task: str
) -> Iterator[ResultRow]:
    """Each arm and seed at all held-out centres together: as many models as folds, so the row has no hash."""
    for measure in measures:
        for arm in panel.arms:
            if arm == LOCAL:
                continue
            for sample in panel.samples(measure, arm):
                figure = figure_of(panel, measure, [sample])
                if figure is None:
                    continue
                low, high = figure.interval(config.confidence)
                yield ResultRow(
                    task=task, arm=arm, seed=sample.seed, centre=ALL, role=EXTERNAL, metric=measure.metric,
                    unit=measure.unit, value=_or_none(figure.value), ci_low=_or_none(low), ci_high=_or_none(high),
                    n=figure.n, model_hash="",
                )  # fmt: skip


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
