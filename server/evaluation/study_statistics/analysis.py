"""The statistics of a cross-centre study: from per-case tables to the tables of a report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from server.evaluation.metric_rows import table_rows
from server.evaluation.study_statistics.contrasts import ArmFigure, contrasts_of
from server.evaluation.study_statistics.estimates import SeedMean, figure_of
from server.evaluation.study_statistics.resamples import ALL, EXTERNAL, TEST, Panel, check_predictions, panel_of
from server.evaluation.study_statistics.subgroups import subgroup_rows
from server.run_folder.arms import FEDERATED, LOCAL
from server.run_folder.study_tables import COMPARISONS, META, RESULTS, SUBGROUPS, SUMMARY, StudyTables, typed
from shared.config.run_config import RunConfig
from shared.config.sections import EvaluationConfig
from shared.metrics.metric import Metric
from shared.metrics.multiple_testing import adjust_p_values
from shared.metrics.random_effects import random_effects, random_effects_of_auc
from shared.tasks import task_named

log = logging.getLogger(__name__)

Row = dict[str, object]


def analyse(
    predictions: Mapping[str, pd.DataFrame],
    cohort: pd.DataFrame,
    config: RunConfig,
) -> StudyTables:
    """Compute every table of a study from its per-case tables; the order of their rows does not matter.

    Patients are drawn within centres, never cases or seeds; every figure of a task shares the draws. Holm's family is
    the study's primary one: the first metric of each task at all held-out centres together, federated against every
    other arm.

    Parameters
    ----------
    predictions
        By task: `predictions/<task>.parquet`.
    cohort
        `cohort.parquet`: one row for each case with the factors of the subgroups.
    config
        Tasks in the order of the tables; resamples and confidence.

    Raises
    ------
    RunError
        A table is not such a table; the message says in what.

    """
    settings = config.evaluation
    results: list[Row] = []
    summary: list[Row] = []
    comparisons: list[Row] = []
    meta: list[Row] = []
    subgroups: list[Row] = []
    for task in (name for name in config.tasks if len(predictions.get(name, ()))):
        log.info("statistics of %s", task)
        table, metrics = predictions[task], task_named(task).metrics
        check_predictions(table)
        panels = {role: panel_of(table, role, settings) for role in (EXTERNAL, TEST)}
        held_out = panels[EXTERNAL]
        means = {role: list(_arm_means(panel, metrics)) for role, panel in panels.items()}
        contrasts = contrasts_of(held_out, metrics, settings.confidence)
        parts = (
            (results, (*_model_rows(table, metrics, settings, task), *_together_rows(held_out, metrics, settings))),
            (summary, (_summary_row(item, role, settings.confidence) for role in means for item in means[role])),
            (comparisons, (_comparison_row(item, metrics[0], settings.confidence) for item in contrasts)),
            (meta, _meta_rows(means[EXTERNAL], contrasts, settings.confidence)),
            (subgroups, subgroup_rows(held_out, metrics[0], cohort, settings.confidence)),
        )
        for rows, more in parts:
            rows += [{"task": task} | row for row in more]
    family = typed(comparisons, COMPARISONS)
    family["p_holm"] = adjust_p_values(family["p"].where(family["primary"]).to_numpy(np.float64), "holm")
    return StudyTables(
        results=typed(results, RESULTS),
        summary=typed(summary, SUMMARY),
        comparisons=family,
        meta=typed(meta, META),
        subgroups=typed(subgroups, SUBGROUPS),
    )


def _model_rows(
    predictions: pd.DataFrame, metrics: Sequence[Metric], config: EvaluationConfig, task: str
) -> Iterator[Row]:
    """Rows of `results.csv`: each model at each centre as a run summarises it.

    A local model that several folds share is evaluated on the same test cases in each: it has its rows once.
    """
    rows: dict[tuple[object, ...], Row] = {}
    key: Any
    for key, cases in predictions.groupby(["role", "held_out", "seed"], sort=True):
        role, _, seed = key
        for row in table_rows(cases, metrics, config, task=task, seed=int(seed), role=role):
            rows.setdefault((role, seed, row.arm, row.model_hash, row.centre, row.metric), row.model_dump())
    yield from rows.values()


def _together_rows(panel: Panel, metrics: Sequence[Metric], config: EvaluationConfig) -> Iterator[Row]:
    """Each arm and seed at all held-out centres together: as many models as folds, so the row has no hash."""
    for metric in metrics:
        for arm in (arm for arm in panel.arms if arm != LOCAL):
            for sample in panel.samples(metric, arm):
                figure = figure_of(panel, metric, [sample])
                if figure:
                    row = _summary_row(ArmFigure(metric, arm, ALL, figure), EXTERNAL, config.confidence)
                    yield row | {"seed": sample.seed, "model_hash": ""}


def _arm_means(panel: Panel, metrics: Sequence[Metric]) -> Iterator[ArmFigure]:
    """Every metric and arm at each centre over seeds; held-out centres also all together."""
    for metric in metrics:
        for arm in panel.arms:
            samples = panel.samples(metric, arm)
            for centre in (*((ALL,) if panel.role == EXTERNAL else ()), *panel.centres):
                keep = panel.at_centre(centre)
                figure = figure_of(panel, metric, [sample.only(keep) for sample in samples])
                if figure:
                    yield ArmFigure(metric, arm, centre, figure)


def _summary_row(item: ArmFigure, role: str, confidence: float) -> Row:
    named: Row = {"arm": item.arm, "centre": item.centre, "role": role}
    return named | {"metric": item.metric.name, "unit": item.metric.unit} | item.figure.row(confidence)


def _comparison_row(item: ArmFigure, first: Metric, confidence: float) -> Row:
    named: Row = {"metric": item.metric.name, "centre": item.centre, "arm": item.arm, "p": item.p}
    primary = item.metric is first and item.centre == ALL
    return named | {"difference": item.figure.value, "primary": primary} | item.figure.row(confidence)


def _meta_rows(means: Sequence[ArmFigure], contrasts: Sequence[ArmFigure], confidence: float) -> Iterator[Row]:
    """Arms first, then differences, each pooled over the held-out centres."""
    quantities = [(item.arm, item) for item in means]
    quantities += [(f"{FEDERATED}-{item.arm}", item) for item in contrasts]
    groups: dict[tuple[str, str], tuple[Metric, dict[str, SeedMean]]] = {}
    for quantity, item in quantities:
        if "pooled" in item.metric.shown and item.centre != ALL:
            key = (item.metric.name, quantity)
            groups.setdefault(key, (item.metric, {}))[1][item.centre] = item.figure
    for (_, quantity), (metric, by_centre) in groups.items():
        row = pooled(metric, quantity, by_centre, confidence)
        if row:
            yield row


def pooled(metric: Metric, quantity: str, by_centre: Mapping[str, SeedMean], confidence: float) -> Row | None:
    """Pool an arm, or `federated-<arm>` for a difference, over centres by random effects; `None` with fewer than two.

    Standard errors are those of the bootstrap. AUCs are pooled on the logit scale, differences of AUCs are not. A
    centre where the figure or its error does not exist, or an AUC of 0 or 1 that has no logit, is left out of `k`.
    """
    area = metric.is_auc and not quantity.startswith(f"{FEDERATED}-")
    known = [figure for figure in by_centre.values() if figure.error > 0 and (not area or 0 < figure.value < 1)]
    pool = random_effects_of_auc if area else random_effects
    pooling = pool([figure.value for figure in known], [figure.error for figure in known], confidence)
    if pooling is None:
        return None
    return {"quantity": quantity, "metric": metric.name, "unit": metric.unit} | asdict(pooling)
