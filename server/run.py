"""A whole run on a grid: data, federation, internal and external figures, results, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import torch
from flwr.serverapp import Grid

from server.evaluation.case_tables import TrainedModels
from server.evaluation.external_validation import validate_externally
from server.evaluation.metric_rows import sum_rows
from server.evaluation.remote_external_validation import validate_at_node
from server.federation.participants import Progress
from server.federation.rounds import Federation
from server.monitoring.mlflow_tracking import open_tracking
from server.reports.page import build_report
from server.run_folder.journal import RunFolder
from server.run_folder.participation import sentence
from server.run_folder.provenance import git_commit, is_phantom, provenance
from server.run_folder.results import ResultRow, Role, TrainedTask, read_results, write_results
from server.run_folder.round_record import RoundRecord, chosen_record
from shared.config.run_config import RunConfig
from shared.metrics.sums import Sums
from shared.runtime.project import project_root
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)


def run(grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress) -> list[ResultRow]:
    """Run a federation to its report; return the rows of `results.csv`.

    Whatever ends it early is raised as a `FedBreastError`: committed rounds stay and the run may be resumed.
    """

    def facts() -> dict[str, str]:
        return {"git": git_commit(), "phantom": "yes" if is_phantom(config) else "no"}

    with open_tracking(config, folder, facts) as tracking:
        if (folder.path / "results.json").is_file():
            # The locked centre is not opened a second time.
            log.info("the run is finished: only its report is made again")
            build_report(folder.path)
            rows = list(read_results(folder.path).rows)
        else:
            started = time.perf_counter()
            tasks = [task_named(name) for name in config.tasks]
            for task in tasks:
                task.check()
            federation = Federation(grid, config, folder, on_progress, tracking.evaluated)
            federation.register()
            rows = []
            trained: dict[str, TrainedModels] = {}
            for task in tasks:
                records = federation.train(task)
                best = chosen_record(records)
                chosen = {item.model_hash: item for item in (best, records[-1])}
                models = {model_hash: folder.model(item) for model_hash, item in chosen.items()}
                frozen = {model_hash: item.thresholds() for model_hash, item in chosen.items()}
                rows += _internal_rows(federation, task, chosen, models)
                trained[task.name] = TrainedModels(models, best.model_hash, frozen)
            rows += _external_rows(federation, trained, on_progress)
            _finish(federation, trained, rows, time.perf_counter() - started)
            on_progress("report", 0, 1, "")
            build_report(folder.path)
            on_progress("report", 1, 1, "")
            federation.participants.states.finish()
        tracking.finish()
    return rows


def _external_rows(
    federation: Federation, trained: Mapping[str, TrainedModels], on_progress: Progress
) -> list[ResultRow]:
    """Figures of the centre that never trained, at its own node or from its folder here; none without such a centre."""
    config, centre = federation.config, federation.config.data.external
    if centre is None:
        return []

    def watch(done: int, total: int) -> None:
        on_progress("external", done, total, centre)

    if federation.participants.external():
        return validate_at_node(federation.participants, trained, watch)
    site = project_root() / config.data.root / centre
    return validate_externally(federation.folder, site, config, federation.plans, trained, watch)


def _finish(
    federation: Federation, trained: Mapping[str, TrainedModels], rows: list[ResultRow], seconds: float
) -> None:
    """Write participation, results and provenance of a run that has ended."""
    config, folder = federation.config, federation.folder
    federation.participation.external(rows)
    federation.participation.write()
    missing = federation.participation.missing()
    if missing:
        log.warning("%s", sentence(missing))
    tasks = {}
    for name, item in trained.items():
        rounds = {record.model_hash: record.round for record in folder.records(name)}
        final = max(item.models, key=rounds.__getitem__)
        tasks[name] = TrainedTask(best=item.best, final=final, best_round=rounds[item.best], rounds=rounds[final])
    write_results(folder.path, rows, provenance(config, folder.path.name, tasks, seconds, missing))


def _internal_rows(
    federation: Federation,
    task: Task,
    records: Mapping[str, RoundRecord],
    models: Mapping[str, Mapping[str, torch.Tensor]],
) -> list[ResultRow]:
    """Figures of the training sites: validation of each chosen round as journalled, test as asked for now."""
    rows: list[ResultRow] = []
    config = federation.config
    for model_hash, record in records.items():
        validation = {name: record.sums(name) for name, entry in record.sites.items() if entry.validation}
        test = federation.evaluate(record, models[model_hash])
        roles: tuple[tuple[Role, Mapping[str, Sums]], ...] = (("validation", validation), ("test", test))
        for role, sums in roles:
            rows += sum_rows(sums, task, config.evaluation, seed=config.seed, role=role, model_hash=model_hash)
    return rows
