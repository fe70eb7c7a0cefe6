"""The cells of a study, each done in a process of its own: everything they leave lies in the study's folder.

What a kill leaves half done is done again, to the same bytes. A model is trained in a run folder of its own, round by
round, and goes on at its last committed round.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import tomli_w

from server.federation.rounds import Federation
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import CONFIG
from server.run_folder.journal import RunFolder
from server.run_folder.results import replace_file
from server.run_folder.round_record import RoundRecord, chosen_record
from server.studies.comparator_arms import train_arm
from server.studies.design import Cell, Design, cell_folder, fold_folder, last_file
from server.studies.fold_evaluation import evaluate_fold
from server.studies.in_process_grid import InProcessGrid, client_app
from shared.config.run_config import RunConfig, load_config
from shared.errors import RunError
from shared.modalities import modality_named
from shared.modalities.modality import Plan
from shared.runtime.project import cache_root, project_root
from shared.site import Prepared, open_site, run_cohort
from shared.tasks import task_named

Report = Callable[[int, int, str], None]
"""Called with (done, total, text)."""


def run_cell(root: Path, cell: Cell, report: Report) -> None:
    """Do a cell of the study in `root`.

    Whatever ends it is raised; the study goes on with the cells that do not wait for it.

    Raises
    ------
    FedBreastError
        What ended it; the study goes on with the cells that do not wait for it.

    """
    design = Design(load_config(root / CONFIG))
    if cell.kind == "extract":
        _extract(root, cell, design.config, report)
    elif cell.kind == "prepare":
        _prepare(root, cell, design.fold(cell.centre), report)
    elif cell.kind == "train":
        _train(root, cell, design.fold(cell.centre, cell.seed), report)
    else:
        config = design.fold(cell.centre, cell.seed)
        plans = _plans(fold_folder(root, cell.centre))
        evaluate_fold(root, cell, design, config, plans, _prepared(config, cell.task, plans), report)


def _extract(root: Path, cell: Cell, config: RunConfig, report: Report) -> None:
    """Read a centre's studies into the cache, which all folds share."""
    cohort = run_cohort(project_root() / config.data.root / cell.centre, config)
    total, steps = len(cohort.cases), itertools.count(1)
    for name in config.modalities:
        modality_named(name).fingerprint_cases(
            [case for case in cohort.cases if case.modality == name],
            config,
            cache_root(),
            on_progress=lambda *_: report(next(steps), total, "cases read"),
        )
    replace_file(last_file(root, cell), json.dumps({"cases": total}).encode())


def _prepare(root: Path, cell: Cell, config: RunConfig, report: Report) -> None:
    """Merge the fold's fingerprints into its plans, and prepare the training centres' cases."""
    folder = _run_folder(fold_folder(root, cell.centre), config)
    try:
        federation = _federation(config, folder, lambda *_: report(0, 1, "the plans and their cases"))
        federation.register()
    finally:
        folder.release()
    if federation.lost:
        reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in sorted(federation.lost.items()))
        raise RunError(f"not every centre can take part ({reasons}): mend it, or take it out of the study")
    replace_file(last_file(root, cell), b"{}")


def _train(root: Path, cell: Cell, config: RunConfig, report: Report) -> None:
    """Train one model; keep the chosen round's, and what chose it."""
    view = config.for_task(cell.task)
    plans = _plans(fold_folder(root, cell.centre))
    folder = _run_folder(cell_folder(root, cell), config)
    total = view.federation.rounds

    def told(number: int) -> None:
        report(number, total, f"round {number} of {total}")

    try:
        told(max((item.round for item in folder.records(cell.task)), default=0))
        if cell.arm == FEDERATED:
            folder.write_plans(plans)
            federation = _federation(config, folder, lambda phase, done, *_: told(done) if phase == "train" else None)
            federation.register()
            records = federation.train(task_named(view.task))
        else:
            plan = plans[task_named(cell.task).modality]
            records = train_arm(cell.arm, folder, view, plan, _prepared(config, cell.task, plans), told)
        _finish(root, cell, folder, records)
    finally:
        folder.release()


def _finish(root: Path, cell: Cell, folder: RunFolder, records: list[RoundRecord]) -> None:
    best = chosen_record(records)
    entry = {
        "task": cell.task,
        "held_out": cell.centre,
        "arm": cell.arm,
        "seed": cell.seed,
        "model_hash": best.model_hash,
        "best_round": best.round,
        "rounds": len(records) - 1,
        "seconds": round(sum(item.seconds for item in records), 1),
        "thresholds": best.thresholds(),
    }
    replace_file(last_file(root, cell), json.dumps(entry, indent=1).encode())
    # The other rounds' weights have done their work: hundreds of models are many gigabytes.
    for path in (folder.path / "models" / cell.task).glob("round-*.safetensors"):
        if path.stem != f"round-{best.round:03d}":
            path.unlink()


def _federation(config: RunConfig, folder: RunFolder, on_progress: Callable[[str, int, int, str], None]) -> Federation:
    # The client app takes nothing from the run's configuration: the server sends it.
    return Federation(InProcessGrid(client_app(), {}, len(config.data.sites)), config, folder, on_progress)


def _run_folder(path: Path, config: RunConfig) -> RunFolder:
    """A run folder as a kill may have left it."""
    folder = RunFolder(path)
    folder.lock()
    folder.write("config.toml", tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)).encode())
    return folder


def _plans(fold: Path) -> dict[str, Plan]:
    plans = RunFolder(fold).plans()
    if not plans:
        raise RunError(f"{fold.name} has no plan: was its folder changed while the study ran?")
    return plans


def _prepared(config: RunConfig, task: str, plans: Mapping[str, Plan]) -> dict[str, Prepared]:
    """The cases that a task reads, of each training centre."""
    root, modality = project_root() / config.data.root, task_named(task).modality
    sites = {name: open_site(root / name, name, config) for name in config.data.sites}
    return {name: site.prepared(modality, plans[modality]) for name, site in sites.items()}
