"""The statistics of a cross-centre study: from per-case tables to the tables of a report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from server.evaluation.study_statistics.contrasts import Contrast, contrasts_of
from server.evaluation.study_statistics.estimates import SeedMean, figure_of
from server.evaluation.study_statistics.per_seed import model_rows, together_rows
from server.evaluation.study_statistics.random_effects import pooled
from server.evaluation.study_statistics.resamples import ALL, EXTERNAL, TEST, Panel, check_predictions, panel_of
from server.evaluation.study_statistics.subgroups import subgroup_rows
from server.run_folder.arms import FEDERATED
from server.run_folder.study_tables import COMPARISONS, META, RESULTS, SUBGROUPS, SUMMARY, StudyTables, typed
from shared.config.run_config import RunConfig
from shared.metrics.metric import Metric
from shared.metrics.multiple_testing import adjust_p_values
from shared.tasks import task_named

log = logging.getLogger(__name__)

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class ArmMean:
    """One arm's figure at one centre over seeds."""

    metric: Metric
    arm: str
    centre: str
    figure: SeedMean


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
        own = model_rows(table, metrics, settings, task)
        results += [row.model_dump() for row in (*own, *together_rows(held_out, metrics, settings, task))]
        means = {role: list(_arm_means(panel, metrics)) for role, panel in panels.items()}
        contrasts = contrasts_of(held_out, metrics, settings.confidence)
        parts = (
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


def _arm_means(panel: Panel, metrics: Sequence[Metric]) -> Iterator[ArmMean]:
    """Every metric and arm at each centre; held-out centres also all together."""
    for metric in metrics:
        for arm in panel.arms:
            samples = panel.samples(metric, arm)
            for centre in (*((ALL,) if panel.role == EXTERNAL else ()), *panel.centres):
                keep = panel.at_centre(centre)
                figure = figure_of(panel, metric, [sample.only(keep) for sample in samples])
                if figure:
                    yield ArmMean(metric, arm, centre, figure)


def _summary_row(item: ArmMean, role: str, confidence: float) -> Row:
    low, high = item.figure.interval(confidence)
    figure = item.figure
    return {
        "arm": item.arm,
        "centre": item.centre,
        "role": role,
        "metric": item.metric.name,
        "unit": item.metric.unit,
        "value": figure.value,
        "ci_low": low,
        "ci_high": high,
        "n": figure.n,
        "patients": figure.patients,
        "seeds": figure.seeds,
        "ranked": figure.ranked,
        "note": figure.note,
    }


def _comparison_row(item: Contrast, first: Metric, confidence: float) -> Row:
    low, high = item.figure.interval(confidence)
    return {
        "metric": item.metric.name,
        "centre": item.centre,
        "arm": item.arm,
        "difference": item.figure.value,
        "ci_low": low,
        "ci_high": high,
        "n": item.figure.n,
        "p": item.p,
        "primary": item.metric is first and item.centre == ALL,
    }


def _meta_rows(means: Sequence[ArmMean], contrasts: Sequence[Contrast], confidence: float) -> Iterator[Row]:
    """Arms first, then differences, each pooled over the held-out centres."""
    groups: dict[tuple[str, str], tuple[Metric, dict[str, SeedMean]]] = {}
    items: list[ArmMean | Contrast] = [*means, *contrasts]
    for item in items:
        if "pooled" in item.metric.shown and item.centre != ALL:
            quantity = f"{FEDERATED}-{item.arm}" if isinstance(item, Contrast) else item.arm
            key = (item.metric.name, quantity)
            groups.setdefault(key, (item.metric, {}))[1][item.centre] = item.figure
    for (_, quantity), (metric, by_centre) in groups.items():
        row = pooled(metric, quantity, by_centre, confidence)
        if row:
            yield row
