"""A fold's evaluation: every arm of a task and seed on the centre left out, and on the training centres' test cases.

The ensemble is the mean of what the fold's local models predict: probabilities before the threshold, or scores. A local
model whose site has no case with a label does not answer for it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import nn

from server.evaluation.case_pictures import drawn_cases, store_picture
from server.evaluation.case_tables import Thresholds, load_model, threshold_columns
from server.run_folder.arms import ENSEMBLE, FEDERATED, is_local
from server.run_folder.external_access import OPENED
from server.run_folder.predictions import case_table
from server.run_folder.results import replace_file, write_parquet
from server.run_folder.volumes import store_volume
from server.studies.design import HELD_OUT, Cell, Design, evaluated_path, fold_folder, trained
from shared.cohort.preflight import Case
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.evaluation import Arms, evaluate, table_row
from shared.modalities.modality import Plan, PreparedCase
from shared.runtime.project import project_root
from shared.site import Prepared, prepare_cohort, run_cohort
from shared.tasks import task_named
from shared.tasks.task import OWN, Task


@dataclass(frozen=True, slots=True)
class FoldModels:
    """Models of a fold, task and seed, with each arm's hash and operating points; the ensemble's hash is of hashes."""

    arms: Arms
    hashes: Mapping[str, str]
    thresholds: Mapping[str, Thresholds]


def evaluate_fold(
    root: Path,
    cell: Cell,
    design: Design,
    config: RunConfig,
    plans: Mapping[str, Plan],
    sites: Mapping[str, Prepared],
    report: Callable[[int, int, str], None],
) -> None:
    """Write the table of an `evaluate` cell; for the first seed of a task with pictures also these and volumes.

    `sites` are the training centres' prepared cases of the task's modality; `report` is called with (done, total,
    text). `RunError` where the centre was not opened for these models, or there is no case to evaluate them on.
    """
    task, view = task_named(cell.task), config.for_task(cell.task)
    models = _models(root, cell, design, view, sites)
    opened = json.loads((fold_folder(root, cell.centre) / OPENED).read_text(encoding="utf-8"))
    if not {models.hashes[arm] for arm in models.arms.models} <= set(opened["model_hashes"]):
        raise RunError(f"{cell.centre} was opened for other models: start a new study in another folder")
    studies, prepared = _open(root, cell.centre, config, plans, report)
    plan, held_out = plans[task.modality], prepared[task.modality]
    places = [("external", cell.centre, held_out), *(("test", name, own["test"]) for name, own in sites.items())]
    chosen = [(role, name, [case for case in cases if task.uses(case.labels, view)]) for role, name, cases in places]
    total, done = sum(len(cases) for _, _, cases in chosen), 0

    def on_case() -> None:
        nonlocal done
        done += 1
        report(done, total, "cases evaluated")

    tables = [
        fold_table(models, task, cases, plan, view, name, on_case).assign(
            role=role, seed=cell.seed, held_out=cell.centre
        )
        for role, name, cases in chosen
        if cases
    ]
    if not tables:
        raise RunError(f"neither {cell.centre} nor a training centre has a case that {cell.task} can be evaluated on")
    whole = pd.concat(tables, ignore_index=True)
    if task.pictures and cell.seed == design.config.study.seeds[0] and FEDERATED in models.arms.models:
        own = whole[(whole["arm"] == FEDERATED) & (whole["role"] == "external")]
        for one in drawn_cases(task, models.arms.models[FEDERATED], studies, held_out, own, plan, view):
            store_picture(root, task.name, task.pictures, one, cell.centre)
            # The page's viewer turns the first structure about.
            path = root / "volumes" / task.name / f"{cell.centre}-{one.label}.npz"
            masks = {"reference": one.reference[0], "prediction": one.predicted[0]}
            store_volume(path, one.key, one.label, image=one.shown, spacing=one.spacing, **masks)
    write_parquet(evaluated_path(root, cell), whole)


def fold_table(
    models: FoldModels,
    task: Task,
    cases: Sequence[PreparedCase],
    plan: Plan,
    view: RunConfig,
    centre: str,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """The per-case table of one centre's cases, all arms; see `predictions.case_table`."""
    frozen = {arm: threshold_columns(values) for arm, values in models.thresholds.items()}
    return case_table(
        table_row(case, centre, arm, models.hashes[arm], item.rows[OWN] | frozen.get(arm, {}))
        for case, measured in evaluate(task, models.arms, cases, plan, view, on_case=on_case)
        for arm, item in measured.items()
    )


def _open(
    root: Path, centre: str, config: RunConfig, plans: Mapping[str, Plan], report: Callable[[int, int, str], None]
) -> tuple[dict[str, Case], dict[str, list[PreparedCase]]]:
    """The cases of the centre left out: as located, and prepared by modality; keeps how many there are."""
    cohort = run_cohort(project_root() / config.data.root / centre, config)
    prepared, excluded = prepare_cohort(
        cohort, config, plans, on_progress=lambda done, total: report(0, 1, f"preparing {done} of {total}")
    )
    reasons = Counter(item.reason for item in (*cohort.exclusions, *excluded))
    flow = {"evaluated": sum(map(len, prepared.values())), "excluded": dict(sorted(reasons.items()))}
    replace_file(fold_folder(root, centre) / HELD_OUT, json.dumps(flow, indent=1).encode())
    return {case.key: case for case in cohort.cases}, prepared


def _models(root: Path, cell: Cell, design: Design, view: RunConfig, sites: Mapping[str, Prepared]) -> FoldModels:
    task = task_named(view.task)
    models: dict[str, nn.Module] = {}
    hashes: dict[str, str] = {}
    thresholds: dict[str, Thresholds] = {}
    answers: dict[str, frozenset[str]] = {}
    for arm in design.trained_arms(cell.centre):
        entry, folder, record = trained(root, Cell("train", cell.centre, view.task, arm, cell.seed))
        models[arm] = load_model(task, view, folder.model(record))
        hashes[arm], thresholds[arm] = record.model_hash, entry["thresholds"]
        if is_local(arm):
            train = sites[arm.partition(":")[2]]["train"]
            seen = frozenset(label for case in train for label in task.seen(case.labels, view))
            answers |= {arm: seen} if task.labels else {}
    members = [arm for arm in models if is_local(arm)]
    hashes[ENSEMBLE] = hashlib.sha256("".join(sorted(hashes[arm] for arm in members)).encode()).hexdigest()
    ensemble = ENSEMBLE if ENSEMBLE in design.config.study.arms and members else ""
    return FoldModels(Arms(models, answers, ensemble, members), hashes, thresholds)
