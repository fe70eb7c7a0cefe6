"""The locked centre: opened once a run, after the last round, for the final and the best model of every task."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from server.evaluation.case_pictures import drawn_cases, store_picture
from server.evaluation.case_tables import Outlines, TrainedModels, evaluate_models, load_model
from server.evaluation.explain_cases import explain_centre
from server.evaluation.late_fusion import fuse_rivals
from server.evaluation.metric_rows import oracle_rows, table_rows
from server.evaluation.modality_fusion import fuse_modalities
from server.evaluation.sides import compare_sides
from server.run_folder.arms import FEDERATED
from server.run_folder.external_access import open_once
from server.run_folder.journal import RunFolder
from server.run_folder.predictions import write_predictions
from server.run_folder.results import ResultRow
from shared.cohort.preflight import Cohort, Exclusion
from shared.config.run_config import RunConfig
from shared.errors import SiteError
from shared.modalities.modality import Plan
from shared.site import prepare_cohort, run_cohort
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)


def validate_externally(
    folder: RunFolder,
    site: Path,
    config: RunConfig,
    plans: Mapping[str, Plan],
    trained: Mapping[str, TrainedModels],
    on_case: Callable[[int, int], None],
) -> list[ResultRow]:
    """Evaluate every task's models on the external centre: predictions, pictures, rows with intervals.

    `site` is the centre's folder, read-only; its cases change neither the configuration nor the federation's plans.
    `trained` are models by task, in the order of training: a classifier is read twice, in the reference outline, and in
    the one that an earlier task's chosen model predicted, where there is one. `on_case` is called with (done, total)
    over preparing and evaluating. `SiteError` where the centre's folder cannot be used, or none of its cases.
    """
    centre = str(config.data.external)
    open_once(folder, centre, {name: item.models for name, item in trained.items()})
    cohort = run_cohort(site, config)
    total = len(cohort.cases) * (1 + sum(len(item.models) for item in trained.values()))
    prepared, excluded = prepare_cohort(
        cohort,
        config,
        plans,
        workers=config.compute.server_workers,
        on_progress=lambda done, _: on_case(done, total),
    )
    _write_flow(folder, centre, cohort, excluded, sum(map(len, prepared.values())))
    counter = itertools.count(len(cohort.cases) + 1)

    def count() -> None:
        on_case(min(next(counter), total), total)

    rows: list[ResultRow] = []
    outlines: Outlines = {}
    studies = {case.key: case for case in cohort.cases}
    tables: dict[str, pd.DataFrame] = {}
    for name, item in trained.items():
        task, view = task_named(name), config.for_task(name)
        plan: Any = plans[task.modality]
        cases: list[Any] = [case for case in prepared[task.modality] if task.uses(case.labels, view)]
        table = evaluate_models(task, item, cases, plan, view, outlines, count)
        own = table[(table["model_hash"] == item.best) & (table["arm"] == FEDERATED)]
        if task.sides_compared and len(own):
            table = pd.concat([table, compare_sides(own, task.scored)], ignore_index=True)
        write_predictions(folder.path, name, table)
        rows += table_rows(table, task.metrics, view.evaluation, task=name, seed=view.seed, role="external")
        best_possible = _oracle(task, view, site) if cohort.folder.phantom else {}
        rows += oracle_rows(best_possible, task.metrics, task=name, seed=view.seed, centre=centre)
        model = load_model(task, view, item.models[item.best])
        if task.pictures is not None:
            for one in drawn_cases(task, model, studies, cases, own, plan, view):
                store_picture(folder.path, name, task.pictures, one)
        if task.explained and view.evaluation.explained_per_subtype and len(own):
            answered = set(own["case"])
            explain_centre(folder.path, [case for case in cases if case.key in answered], view, plan, model, own)
        tables[name] = own
    return [*rows, *fuse_rivals(folder.path, config, tables), *fuse_modalities(folder.path, config, tables)]


def _oracle(task: Task, view: RunConfig, site: Path) -> dict[str, float]:
    """The best AUC that any model could reach on this centre's phantoms; nothing for real data."""
    settings = view.data.phantom
    if settings is None:
        return {}
    from shared.phantom.oracle import oracle_areas

    areas = oracle_areas(
        site.name, task.modality, shift=settings.shift, separation=settings.separation, benign=settings.cases_benign > 0
    )
    known = [areas[label.name] for label in task.scored if label.name in areas]
    return areas | ({"macro": sum(known) / len(known)} if known and len(known) == len(task.scored) else {})


def _write_flow(folder: RunFolder, centre: str, cohort: Cohort, excluded: list[Exclusion], included: int) -> None:
    """Count the centre's cases in `cases.json`; `SiteError` where none is usable."""
    reasons = Counter(item.reason for item in (*cohort.exclusions, *excluded))
    flow = folder.flow()
    flow[centre] = {"role": "external", "included": {"external": included}, "excluded": dict(reasons)}
    folder.write_flow(flow)
    if not included:
        raise SiteError(
            f"the external centre '{centre}' has no usable case ({dict(reasons)}): run `fedbreast check` on it"
        )
