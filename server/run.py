"""A whole run on a grid: data, federation, internal and external figures, results, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

import torch
from flwr.serverapp import Grid

from server.evaluation.case_tables import TrainedModels
from server.evaluation.external_validation import validate_externally
from server.evaluation.metric_rows import sum_rows
from server.evaluation.remote_external_validation import validate_at_node
from server.federation.participants import Progress
from server.federation.readiness import check_disk, check_external, external_folder_is_here
from server.federation.rounds import Federation
from server.monitoring.mlflow_tracking import open_tracking
from server.reports.page import build_report
from server.run_folder.journal import RunFolder
from server.run_folder.participation import sentence
from server.run_folder.phantoms import of_phantoms
from server.run_folder.provenance import git_commit, provenance
from server.run_folder.results import ResultRow, Role, TrainedTask, is_finished, read_results, write_results
from server.run_folder.round_record import RoundRecord, chosen_record
from shared.config.run_config import RunConfig
from shared.errors import FedBreastError, RunError, SiteError, safe_error
from shared.metrics.sums import Sums
from shared.runtime.project import project_root
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)


def run(grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress) -> list[ResultRow]:
    """Run a federation to its report; return the rows of `results.csv`.

    Whatever ends it early is raised as a `FedBreastError`: committed rounds stay and the run may be resumed.
    """
    rows: list[ResultRow] = []
    with open_tracking(config, folder, lambda: {"git": git_commit()}) as tracking:
        if is_finished(folder.path):
            # The locked centre is not opened a second time.
            log.info("the run is finished: only its report is made again")
            build_report(folder.path)
            rows = list(read_results(folder.path).rows)
        else:
            federation = Federation(grid, config, folder, on_progress, tracking.evaluated)
            _begin(federation)
            tracking.tell_data(*of_phantoms(config, federation.participants.phantoms))
            # The run's own time: of its earlier sittings, that of the committed rounds.
            before = sum(record.seconds for name in config.tasks for record in folder.records(name))
            started = time.perf_counter() - before
            trained: dict[str, TrainedModels] = {}
            failure: Exception | None = None
            for task in map(task_named, config.tasks):
                try:
                    own, models = _figures(federation, task, federation.train(task))
                except Exception as error:
                    if not trained:
                        raise
                    failure = error
                    break
                rows += own
                trained[task.name] = models
            rows += _conclude(federation, rows, trained, failure, started, on_progress)
            federation.participants.states.finish()
        tracking.finish()
    return rows


def _begin(federation: Federation) -> None:
    """Find and prepare the sites; what any task or the external centre will need is checked before."""
    config, folder = federation.config, federation.folder
    for name in config.tasks:
        task_named(name).check()
    check_disk(folder, config)
    begun = any(folder.records(name) for name in config.tasks)
    external = config.data.external
    federation.find([external] if external and not begun and not external_folder_is_here(config) else [])
    check_external(federation.participants, begun=begun)
    federation.prepare()


def _conclude(
    federation: Federation,
    rows: Sequence[ResultRow],
    trained: Mapping[str, TrainedModels],
    failure: Exception | None,
    started: float,
    on_progress: Progress,
) -> list[ResultRow]:
    """Evaluate what was trained at the external centre, report it, and raise what kept a later task from it."""
    config = federation.config
    external: list[ResultRow] = []
    unfinished = _unfinished(config, trained, failure) if failure else {}
    try:
        external = _external_rows(federation, trained, on_progress)
    except Exception as error:
        log.exception("the external centre did not evaluate")
        unfinished[f"the evaluation at {config.data.external}"] = _why(error)
        failure = failure or error
    _finish(federation, trained, [*rows, *external], time.perf_counter() - started, unfinished)
    on_progress("report", 0, 1, "")
    build_report(federation.folder.path)
    on_progress("report", 1, 1, "")
    if failure is not None:
        raise failure
    return external


def _figures(
    federation: Federation, task: Task, records: Sequence[RoundRecord]
) -> tuple[list[ResultRow], TrainedModels]:
    """Figures of the training sites, and the models to evaluate: the chosen round's and the last."""
    best = chosen_record(records)
    chosen = {item.model_hash: item for item in (best, records[-1])}
    models = {model_hash: federation.folder.model(item) for model_hash, item in chosen.items()}
    frozen = {model_hash: item.thresholds() for model_hash, item in chosen.items()}
    rows = _internal_rows(federation, task, chosen, models)
    return rows, TrainedModels(models, best.model_hash, frozen)


def _unfinished(config: RunConfig, trained: Collection[str], failure: Exception) -> dict[str, str]:
    """Each task without results, and why."""
    first, *later = [name for name in config.tasks if name not in trained]
    return {first: _why(failure)} | dict.fromkeys(later, f"not begun, as {first} failed")


def _why(failure: Exception) -> str:
    if isinstance(failure, SiteError):
        return safe_error(failure)
    return str(failure) if isinstance(failure, FedBreastError) else f"{type(failure).__name__}, see log.jsonl"


def _external_rows(
    federation: Federation, trained: Mapping[str, TrainedModels], on_progress: Progress
) -> list[ResultRow]:
    """Figures of the centre that never trained, at its own node or from its folder here; none without such a centre."""
    config, centre = federation.config, federation.config.data.external
    if centre is None:
        return []

    def watch(done: int, total: int) -> None:
        on_progress("external", done, total, centre)

    here = external_folder_is_here(config)
    if federation.participants.external(wait=not here):
        return validate_at_node(federation.participants, trained, watch)
    if not here:
        raise RunError(f"the node of the external centre '{centre}' is not connected: start it and resume the run")
    site = project_root() / config.data.root / centre
    return validate_externally(federation.folder, site, config, federation.plans, trained, watch)


def _finish(
    federation: Federation,
    trained: Mapping[str, TrainedModels],
    rows: list[ResultRow],
    seconds: float,
    unfinished: Mapping[str, str],
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
    phantoms = federation.participants.phantoms
    made = provenance(config, folder.path.name, tasks, seconds, missing, phantoms, unfinished)
    write_results(folder.path, rows, made)


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
