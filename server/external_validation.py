"""The locked centre: opened once a run, after the last round, for the final and the best model.

`external-opened.json` is written before the first case is read. It names the models; a run that was stopped in between
may go on with the same models, and with no others.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from server.journal import RunFolder
from server.predictions import prediction_table, write_predictions
from server.reports.pictures import select_pictures, store_picture
from server.results import ResultRow
from server.summaries import external_rows
from shared.cohort.preflight import Case, open_cohort
from shared.config import RunConfig
from shared.errors import RunError, SiteError
from shared.inference import evaluate_case
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import prepare_cases
from shared.project import cache_root
from shared.tasks import task_named

log = logging.getLogger(__name__)

ARM = "federated"
OPENED = "external-opened.json"

Models = Mapping[str, Mapping[str, torch.Tensor]]
"""State dicts by model hash."""


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
    models: Models,
    best: str,
    on_case: Callable[[int, int], None],
) -> list[ResultRow]:
    """Judge models on the external centre: predictions, pictures of the best model's cases, rows with intervals.

    Parameters
    ----------
    folder
        The run's folder.
    site
        The external centre's site folder; read-only.
    config, plan
        The run's configuration and the federation's plan: the external centre changes neither.
    models
        State dicts by hash.
    best
        Hash of the model chosen on the training sites' validation cases.
    on_case
        Called with (done, total) over preparing and judging.

    Raises
    ------
    SiteError
        The centre's folder cannot be used, or none of its cases.

    """
    centre = str(config.data.external)
    open_once(folder, centre, list(models))
    cohort = open_cohort(site)
    total = len(cohort.cases) * (1 + len(models))
    prepared, excluded = prepare_cases(
        cohort.cases,
        plan,
        CaseCache(cache_root()),
        workers=config.compute.server_workers,
        on_progress=lambda done, _: on_case(done, total),
    )
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
    tables, done = [], len(cohort.cases)
    for model_hash, state in models.items():
        model = task_named(config.task).build_model(config)
        model.load_state_dict(dict(state))
        judged = []
        for case in prepared:
            judged.append((case.key, evaluate_case(model, case, config)[0]))
            done += 1
            on_case(done, total)
        tables.append(prediction_table(judged, centre=centre, arm=ARM, model_hash=model_hash))
        if model_hash == best:
            _store_pictures(
                folder,
                model,
                dict(zip((item.key for item in cohort.cases), cohort.cases, strict=True)),
                prepared,
                tables[-1],
                config,
            )
    table = pd.concat(tables, ignore_index=True)
    write_predictions(folder.path, table)
    rows: list[ResultRow] = []
    for model_hash in models:
        rows += external_rows(
            table,
            config.evaluation,
            task=config.task,
            arm=ARM,
            seed=config.seed,
            centre=centre,
            model_hash=model_hash,
        )
    return rows


def _store_pictures(
    folder: RunFolder,
    model: torch.nn.Module,
    cases: Mapping[str, Case],
    prepared: list[CachedCase],
    table: pd.DataFrame,
    config: RunConfig,
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
            prediction=evaluate_case(model, by_key[key], config)[1],
            spacing=study.grid.spacing,
        )
