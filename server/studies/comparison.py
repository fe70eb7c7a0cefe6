"""Does federation help here? Federated, local and pooled arms over seeds, judged on the same cases.

Cells, one an arm and a seed, are kept as they finish: a comparison that was stopped goes on with those missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from client.app import app
from client.site import open_site
from server.journal import RunFolder
from server.predictions import prediction_table
from server.results import replace_file
from server.rounds import Federation
from server.run import ensure_data
from server.studies.arms import arm_names, train_arm
from server.studies.in_process import InProcessGrid
from shared.cohort.preflight import open_cohort
from shared.config import RunConfig
from shared.errors import ConfigError, RunError
from shared.inference import evaluate_case
from shared.metrics.intervals import bootstrap_patients, weighted_mean
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import prepare_cases
from shared.project import cache_root, load_run_config, project_root
from shared.reproducibility import derive_seed, state_hash
from shared.tasks import task_named

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]


def compare(config_path: str, seeds: Sequence[int], out: Path, on_progress: Progress) -> pd.DataFrame:
    """Run every missing cell, then summarise.

    Parameters
    ----------
    config_path
        Configuration, relative to the project's root or absolute.
    seeds
        Training seeds; the data keep theirs.
    out
        Folder of the comparison: `cells/`, `summary.csv`.
    on_progress
        Called with (phase, done, total, text).

    Returns
    -------
    One row an arm and place (`internal`: the training sites' test cases; `external`): Dice with interval, and the
    paired difference of the federated arm.

    Raises
    ------
    ConfigError
        The run's first task outlines no lesions: arms are compared by those alone.

    """
    first = load_run_config({"config": config_path})
    if first.task != "lesion-segmentation":
        raise ConfigError(f"arms are compared by lesion outlines, and the first of tasks is '{first.task}'")
    ensure_data(first, on_progress)
    cells = [(seed, arm) for seed in seeds for arm in arm_names(first)]
    for done, (seed, arm) in enumerate(cells):
        on_progress("cells", done, len(cells), f"seed {seed}, {arm}")
        path = _cell(out, seed, arm)
        if not path.is_file():
            _run_cell(config_path, seed, arm, out, lambda *_: None)
    on_progress("cells", len(cells), len(cells), "")
    judged = pd.concat([pd.read_parquet(_cell(out, seed, arm)) for seed, arm in cells], ignore_index=True)
    summary = summarise(judged, first)
    replace_file(out / "summary.csv", summary.to_csv(index=False).encode())
    return summary


def summarise(judged: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    """Mean Dice an arm and place with a patient bootstrap, and federated minus arm, paired by case.

    A case's Dice is first averaged over seeds: the patient is the unit, a seed is no new patient.
    """
    rows = []
    for place, cases in judged.groupby("role"):
        wide = cases.pivot_table("dice", ["case", "centre", "patient"], "arm").reset_index()
        for arm in [name for name in arm_names(config) if name in wide.columns]:
            row: dict[str, object] = {"place": place, "arm": arm, "n": len(wide), "seeds": judged["seed"].nunique()}
            for name, values in (("dice", wide[arm]), ("federated_minus", wide["federated"] - wide[arm])):
                found = bootstrap_patients(
                    np.asarray(values, np.float64)[:, None],
                    wide["patient"].tolist(),
                    weighted_mean,
                    n=config.evaluation.bootstrap,
                    seed=derive_seed(0, "comparison"),
                    confidence=config.evaluation.confidence,
                    strata=wide["centre"].tolist(),
                )
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            by_seed = cases[cases["arm"] == arm].groupby("seed")["dice"].mean()
            rows.append(row | {"by_seed": " ".join(f"{value:.3f}" for value in by_seed)})
    return pd.DataFrame(rows)


def _run_cell(config_path: str, seed: int, arm: str, out: Path, on_progress: Progress) -> None:
    run_config: dict[str, bool | float | int | str] = {"config": config_path, "seed": seed}
    config = load_run_config(run_config)
    path = out / f"seed-{seed}"
    folder = RunFolder.resume(path)[0] if (path / "config.toml").is_file() else RunFolder.create(path, config)
    try:
        federation = Federation(InProcessGrid(app, run_config, len(config.data.sites)), config, folder, on_progress)
        federation.register()
        plan = federation.plan
        if plan is None:
            raise RunError("the federation has no plan")
        sites = {name: open_site(_folder(config, name), name, config).prepare(plan) for name in config.data.sites}
        if arm == "federated":
            model = task_named(config.task).build_model(config)
            model.load_state_dict(folder.model(federation.train(config.task)[-1]))
        else:
            model = train_arm(arm, config, {name: site["train"] for name, site in sites.items()}, lambda _: None)
    finally:
        folder.release()
    places = [("internal", name, site["test"]) for name, site in sites.items()]
    if config.data.external is not None:
        places.append(("external", config.data.external, _external(config, plan)))
    tables = [_judge(model, cases, config, role, centre, arm, seed) for role, centre, cases in places if cases]
    cell = _cell(out, seed, arm)
    cell.parent.mkdir(parents=True, exist_ok=True)
    draft = cell.with_suffix(".draft")
    pd.concat(tables, ignore_index=True).to_parquet(draft, index=False)
    draft.replace(cell)


def _judge(
    model: nn.Module,
    cases: Sequence[CachedCase],
    config: RunConfig,
    role: str,
    centre: str,
    arm: str,
    seed: int,
) -> pd.DataFrame:
    judged = [(case.key, evaluate_case(model, case, config)[0]) for case in cases]
    table = prediction_table(judged, centre=centre, arm=arm, model_hash=state_hash(model.state_dict()))
    return table.assign(role=role, seed=seed)


def _external(config: RunConfig, plan: Plan) -> list[CachedCase]:
    cohort = open_cohort(_folder(config, str(config.data.external)))
    return prepare_cases(cohort.cases, plan, CaseCache(cache_root()), workers=config.compute.server_workers)[0]


def _folder(config: RunConfig, name: str) -> Path:
    return project_root() / config.data.root / name


def _cell(out: Path, seed: int, arm: str) -> Path:
    return out / "cells" / f"{arm.replace(':', '-')}-seed-{seed}.parquet"
