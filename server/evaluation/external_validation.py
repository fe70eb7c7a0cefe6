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

import pandas as pd
import torch

from server.evaluation.classification_rows import classification_rows
from server.evaluation.explain_cases import explain_centre
from server.evaluation.external_classification import classify_centre
from server.evaluation.external_segmentation import ARM, segment_centre
from server.evaluation.external_tissues import outline_centre
from server.evaluation.late_fusion import fuse_centre
from server.evaluation.metric_rows import external_rows
from server.evaluation.tissue_rows import tissue_rows
from server.run_folder.journal import RunFolder
from server.run_folder.predictions import write_predictions
from server.run_folder.results import ResultRow
from shared.cohort.preflight import Cohort, Exclusion, open_cohort
from shared.config.run_config import RunConfig
from shared.config.sections import TaskName
from shared.errors import RunError, SiteError
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import prepare_cases
from shared.runtime.project import cache_root
from shared.tasks import task_named
from shared.types import BoolArray

log = logging.getLogger(__name__)

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


def open_once(folder: RunFolder, centre: str, hashes: list[str], *, at_node: bool = False) -> None:
    """Record that the external centre is opened, for which models, and whether by its own node, which sends sums.

    Raises
    ------
    RunError
        It was opened before, for other models.

    """
    path = folder.path / OPENED
    entry = {"centre": centre, "model_hashes": sorted(set(hashes)), "at_node": at_node}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if {key: before.get(key, False) for key in entry} != entry:
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
        the one that the chosen lesion segmentation predicted, where there is one.
    on_case
        Called with (done, total) over preparing and judging.

    Raises
    ------
    SiteError
        The centre's folder cannot be used, or none of its cases.

    """
    centre = str(config.data.external)
    open_once(folder, centre, [model for item in trained.values() for model in item.models])
    cohort = open_cohort(site, needs_mask=config.reads_lesions)
    total = len(cohort.cases) * (1 + sum(len(item.models) for item in trained.values()))
    prepared, excluded = prepare_cases(
        cohort.cases,
        plan,
        CaseCache(cache_root()),
        workers=config.compute.server_workers,
        on_progress=lambda done, _: on_case(done, total),
        tissues=config.reads_tissues,
    )
    _write_flow(folder, centre, cohort, excluded, prepared)
    done = itertools.count(len(cohort.cases) + 1)
    rows: list[ResultRow] = []
    outlines: dict[str, BoolArray] = {}
    studies = {case.key: case for case in cohort.cases}
    for name, item in trained.items():
        view = config.for_task(name)
        cases = [case for case in prepared if task_named(name).uses(case.labels, view)]
        step = partial(_count, done, total, on_case)
        if name == "lesion-segmentation":
            found = segment_centre(folder.path, studies, cases, view, item.models, item.best, outlines, step)
            rows += _outlined(external_rows, found, view, item)
        elif name == "breast-segmentation":
            found = outline_centre(folder.path, studies, cases, view, item.models, item.best, step)
            rows += _outlined(tissue_rows, found, view, item)
        else:
            found = classify_centre(cases, outlines, view, plan, item.models, item.best, centre, step)
            rows += _classified(found, item, view, site)
            if name == "subtype-ensemble" and view.evaluation.explained_per_subtype:
                own = found[(found["model_hash"] == item.best) & (found["arm"] == ARM)]
                explain_centre(folder.path, cases, view, plan, item.models[item.best], own)
        write_predictions(folder.path, name, found)
    return rows + fuse_centre(folder.path, config, {name: item.best for name, item in trained.items()})


def _count(done: Iterator[int], total: int, on_case: Callable[[int, int], None]) -> None:
    on_case(min(next(done), total), total)


def _outlined(
    summarise: Callable[..., list[ResultRow]], table: pd.DataFrame, view: RunConfig, item: Trained
) -> list[ResultRow]:
    """Rows of every model of a segmentation."""
    who = {"task": view.task, "arm": ARM, "seed": view.seed, "centre": str(view.data.external)}
    return [
        row for model_hash in item.models for row in summarise(table, view.evaluation, model_hash=model_hash, **who)
    ]


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
    from shared.phantom.benign import malignancy_oracle
    from shared.phantom.biology import oracle_auc
    from shared.phantom.centres import find_centre, population_at

    model = population_at(find_centre(site.name), settings.shift), settings.separation
    return oracle_auc(*model) | ({"malignant": malignancy_oracle(*model)} if settings.cases_benign else {})


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
