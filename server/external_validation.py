"""The locked centre: opened once a run, after the last round, for the final and the best model.

`external-opened.json` is written before the first case is read. It names the models; a run that was stopped in between
may go on with the same models, and with no others.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from server.classified import classification_rows
from server.explained import explain_centre
from server.external_classification import classify_centre
from server.journal import RunFolder
from server.predictions import prediction_table, write_predictions
from server.reports.pictures import select_pictures, store_picture
from server.results import ResultRow
from server.summaries import external_rows
from shared.cohort.preflight import Case, Cohort, Exclusion, open_cohort
from shared.config import RunConfig
from shared.config_sections import SEGMENTATIONS, TaskName
from shared.errors import RunError, SiteError
from shared.inference import evaluate_case
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import prepare_cases
from shared.project import cache_root
from shared.tasks import task_named
from shared.types import BoolArray

log = logging.getLogger(__name__)

ARM = "federated"
OPENED = "external-opened.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A task's models to be judged.

    Attributes
    ----------
    models
        State dicts by hash.
    best
        Hash of the model chosen on the training sites' validation cases.
    thresholds
        Classification: operating point of each label by model hash, frozen on those validation cases.

    """

    models: Mapping[str, Mapping[str, torch.Tensor]]
    best: str
    thresholds: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


def open_once(folder: RunFolder, centre: str, hashes: list[str]) -> None:
    """Record that the external centre is opened, for which models.

    Raises
    ------
    RunError
        It was opened before, for other models.

    """
    path = folder.path / OPENED
    entry = {"centre": centre, "model_hashes": sorted(set(hashes))}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if {key: before.get(key) for key in entry} != entry:
            raise RunError(
                f"the external centre '{centre}' was already opened in this run, for other models: a centre that is "
                "looked at twice no longer judges. Start a new run",
            )
        return
    folder.write(OPENED, json.dumps({**entry, "at": datetime.now(UTC).isoformat()}, indent=1).encode())


def validate_externally(
    folder: RunFolder,
    site: Path,
    config: RunConfig,
    plan: Plan,
    trained: Mapping[TaskName, Trained],
    on_case: Callable[[int, int], None],
) -> list[ResultRow]:
    """Judge every task's models on the external centre: predictions, pictures, rows with intervals.

    Parameters
    ----------
    folder
        The run's folder.
    site
        The external centre's site folder; read-only.
    config, plan
        The run's configuration and the federation's plan: the external centre changes neither.
    trained
        Models by task, in the order of training. Classifiers read each case twice: in the reference outline, and in
        the one that the chosen segmentation model predicted, where there is one.
    on_case
        Called with (done, total) over preparing and judging.

    Raises
    ------
    SiteError
        The centre's folder cannot be used, or none of its cases.

    """
    centre = str(config.data.external)
    open_once(folder, centre, [model for item in trained.values() for model in item.models])
    cohort = open_cohort(site)
    total = len(cohort.cases) * (1 + sum(len(item.models) for item in trained.values()))
    prepared, excluded = prepare_cases(
        cohort.cases,
        plan,
        CaseCache(cache_root()),
        workers=config.compute.server_workers,
        on_progress=lambda done, _: on_case(done, total),
    )
    _write_flow(folder, centre, cohort, excluded, prepared)
    done = itertools.count(len(cohort.cases) + 1)
    rows: list[ResultRow] = []
    outlines: dict[str, BoolArray] = {}
    for name, item in trained.items():
        view = config.for_task(name)
        cases = [case for case in prepared if task_named(name).uses(case.labels, view)]
        step = partial(_count, done, total, on_case)
        if name in SEGMENTATIONS:
            found = _segment(folder, cohort, cases, view, item, outlines, step)
            for model_hash in item.models:
                rows += external_rows(
                    found, config.evaluation, task=name, arm=ARM, seed=config.seed, centre=centre, model_hash=model_hash
                )
        else:
            found = classify_centre(cases, outlines, view, plan, item.models, item.best, centre, step)
            rows += _classified(found, item, view, site)
            if name == "subtype-ensemble" and view.evaluation.explained_per_subtype:
                own = found[(found["model_hash"] == item.best) & (found["arm"] == ARM)]
                explain_centre(folder.path, cases, view, plan, item.models[item.best], own)
        write_predictions(folder.path, name, found)
    return rows


def _count(done: Iterator[int], total: int, on_case: Callable[[int, int], None]) -> None:
    on_case(min(next(done), total), total)


def _segment(
    folder: RunFolder,
    cohort: Cohort,
    cases: list[CachedCase],
    view: RunConfig,
    item: Trained,
    outlines: dict[str, BoolArray],
    step: Callable[[], None],
) -> pd.DataFrame:
    """Table of every model; the chosen one's outlines are kept for the classifiers, and pictures of its cases."""
    tables = []
    for model_hash, state in item.models.items():
        model = task_named(view.task).build_model(view)
        model.load_state_dict(dict(state))
        judged = []
        for case in cases:
            metrics, outline = evaluate_case(model, case, view)
            judged.append((case.key, metrics))
            if model_hash == item.best:
                outlines[case.key] = outline
            step()
        tables.append(prediction_table(judged, centre=str(view.data.external), arm=ARM, model_hash=model_hash))
        if model_hash == item.best:
            by_key = {case.key: case for case in cohort.cases}
            _store_pictures(folder, by_key, cases, tables[-1], outlines)
    return pd.concat(tables, ignore_index=True)


def _classified(table: pd.DataFrame, item: Trained, view: RunConfig, site: Path) -> list[ResultRow]:
    """Rows of every model with its own frozen thresholds; beside the chosen one what the phantom's oracle reaches."""
    rows: list[ResultRow] = []
    for model_hash in item.models:
        own = table[table["model_hash"] == model_hash]
        rows += classification_rows(
            own,
            view.evaluation,
            task=view.task,
            seed=view.seed,
            role="external",
            thresholds=item.thresholds.get(model_hash, {}),
            oracle=_oracle(view, site) if model_hash == item.best else None,
        )
    return rows


def _oracle(view: RunConfig, site: Path) -> dict[str, float] | None:
    """The best AUC that any model could reach on this centre's phantoms; None for real data."""
    settings = view.data.phantom
    if settings is None:
        return None
    from shared.phantom.biology import oracle_auc
    from shared.phantom.centres import find_centre, population_at

    return oracle_auc(population_at(find_centre(site.name), settings.shift), settings.separation)


def _write_flow(
    folder: RunFolder, centre: str, cohort: Cohort, excluded: list[Exclusion], prepared: list[CachedCase]
) -> None:
    """Count the centre's cases in `cases.json`.

    Raises
    ------
    SiteError
        None is usable.

    """
    reasons = Counter(item.reason for item in (*cohort.exclusions, *excluded))
    flow = folder.flow()
    flow[centre] = {"role": "external", "included": {"external": len(prepared)}, "excluded": dict(reasons)}
    if cohort.over_policy(excluded):
        log.warning("%s: more cases are left out than the site's policy allows", centre)
        flow[centre]["over_policy"] = True
    folder.write_flow(flow)
    if not prepared:
        raise SiteError(
            f"the external centre '{centre}' has no usable case ({dict(reasons)}): run `fedbreast check` on it"
        )


def _store_pictures(
    folder: RunFolder,
    cases: Mapping[str, Case],
    prepared: list[CachedCase],
    table: pd.DataFrame,
    outlines: Mapping[str, BoolArray],
) -> None:
    """Store the best, median and worst case on the study's own grid."""
    by_key = {case.key: case for case in prepared}
    for label, key in select_pictures(table).items():
        study = cases[key].load_study()
        image = np.stack([study.phases[0], study.phases[1] - study.phases[0]])
        store_picture(
            folder.path,
            label,
            key,
            image=image,
            reference=by_key[key].native_mask,
            prediction=outlines[key],
            spacing=study.grid.spacing,
        )
