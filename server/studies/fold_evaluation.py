"""A fold's judge: every arm of a task and seed on the centre left out, and on the training centres' test cases."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from server.evaluation.case_tables import Judged, judge_cases
from server.evaluation.external_validation import OPENED
from server.run_folder.pictures import FIELD_OF_VIEW_MM, select_pictures, store_planes
from server.run_folder.results import replace_file
from server.run_folder.volumes import store_volume
from server.studies.design import ENSEMBLE, FEDERATED, LOCAL, Cell, Design
from server.studies.paths import HELD_OUT, fold_folder, judged_path, trained
from shared.cohort.preflight import Case, open_cohort
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.inference import evaluate_case
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import prepare_cases
from shared.runtime.project import cache_root, project_root
from shared.site import Prepared
from shared.tasks import task_named


def judge_fold(
    root: Path,
    cell: Cell,
    design: Design,
    config: RunConfig,
    plan: Plan,
    sites: Mapping[str, Prepared],
    report: Callable[[int, int, str], None],
) -> None:
    """Write the cell's per-case table; for the first seed of lesion outlines also pictures and volumes.

    Parameters
    ----------
    root, cell, design
        The study's folder, the `judge` cell and the design.
    config, plan, sites
        The fold's configuration, its plan, and the training centres' prepared cases.
    report
        Called with (done, total, text).

    Raises
    ------
    RunError
        The centre was not opened for these models.

    """
    view = config.for_task(task_named(cell.task).name)
    judged = _models(root, cell, design, view, sites)
    opened = json.loads((fold_folder(root, cell.centre) / OPENED).read_text(encoding="utf-8"))
    if not {judged.hashes[arm] for arm in judged.models} <= set(opened["model_hashes"]):
        raise RunError(f"{cell.centre} was opened for other models: start a new study in another folder")
    studies, held_out = _open(root, cell.centre, config, plan, report)
    places = [("external", cell.centre, held_out), *(("test", name, found["test"]) for name, found in sites.items())]
    task = task_named(view.task)
    chosen = [(role, name, [case for case in cases if task.uses(case.labels, view)]) for role, name, cases in places]
    total, done = sum(len(cases) for _, _, cases in chosen), 0

    def on_case() -> None:
        nonlocal done
        done += 1
        report(done, total, "cases judged")

    tables = [
        judge_cases(judged, cases, view, plan, name, on_case).assign(role=role, seed=cell.seed, held_out=cell.centre)
        for role, name, cases in chosen
        if cases
    ]
    if not tables:
        raise RunError(f"neither {cell.centre} nor a training centre has a case that {cell.task} can be judged by")
    whole = pd.concat(tables, ignore_index=True)
    first = cell.seed == design.config.study.seeds[0]
    if task.kind == "segmentation" and first and FEDERATED in judged.models:
        own = whole[(whole["arm"] == FEDERATED) & (whole["role"] == "external")]
        _keep_pictures(root, cell.centre, studies, held_out, own, judged.models[FEDERATED], view)
    content = io.BytesIO()
    whole.to_parquet(content, index=False)
    replace_file(judged_path(root, cell), content.getvalue())


def _open(
    root: Path, centre: str, config: RunConfig, plan: Plan, report: Callable[[int, int, str], None]
) -> tuple[dict[str, Case], list[CachedCase]]:
    """The cases of the centre left out: as found, and prepared by the fold's plan; says how many were left out."""
    cohort = open_cohort(project_root() / config.data.root / centre, needs_mask=config.reads_lesions)
    prepared, excluded = prepare_cases(
        cohort.cases,
        plan,
        CaseCache(cache_root()),
        tissues=config.reads_tissues,
        on_progress=lambda done, total: report(0, 1, f"preparing {done} of {total}"),
    )
    reasons = Counter(item.reason for item in (*cohort.exclusions, *excluded))
    flow = {"judged": len(prepared), "excluded": dict(sorted(reasons.items()))}
    replace_file(fold_folder(root, centre) / HELD_OUT, json.dumps(flow, indent=1).encode())
    return {case.key: case for case in cohort.cases}, prepared


def _models(root: Path, cell: Cell, design: Design, view: RunConfig, sites: Mapping[str, Prepared]) -> Judged:
    task = task_named(view.task)
    models: dict[str, nn.Module] = {}
    hashes: dict[str, str] = {}
    answers: dict[str, frozenset[str]] = {}
    for arm in design.trained_arms(cell.centre):
        _, folder, record = trained(root, Cell("train", cell.centre, view.task, arm, cell.seed))
        models[arm] = task.build_model(view)
        models[arm].load_state_dict(folder.model(record))
        hashes[arm] = record.model_hash
        if arm.startswith(LOCAL):
            train = sites[arm.removeprefix(f"{LOCAL}:")]["train"]
            answers[arm] = frozenset(label for case in train for label in task.truths(case.labels, view))
    members = "".join(sorted(hashes[arm] for arm in answers))
    hashes[ENSEMBLE] = hashlib.sha256(members.encode()).hexdigest()
    return Judged(models, hashes, answers, ENSEMBLE in design.config.study.arms)


def _keep_pictures(
    root: Path,
    centre: str,
    studies: Mapping[str, Case],
    cases: Sequence[CachedCase],
    table: pd.DataFrame,
    model: nn.Module,
    view: RunConfig,
) -> None:
    """Store the best, median and worst case of the federated model: planes for the page, volumes for its viewer."""
    if table.empty:
        return
    by_key = {case.key: case for case in cases}
    for label, key in select_pictures(table).items():
        study, case = studies[key].load_study(), by_key[key]
        _, prediction = evaluate_case(model, case, view)
        rise = np.asarray(study.phases[1] - study.phases[0], np.float32)
        store_planes(
            root / "pictures" / centre / f"{label}.npz",
            key,
            {"image": rise, "reference": case.native_mask, "prediction": prediction},
            spacing=study.grid.spacing,
            field_mm=FIELD_OF_VIEW_MM,
        )
        store_volume(
            root / "volumes" / f"{centre}-{label}.npz",
            key,
            label,
            image=np.stack([study.phases[0], rise]),
            reference=case.native_mask,
            prediction=prediction,
            spacing=study.grid.spacing,
        )
