"""A whole run on a grid: data, federation, internal and external figures, results, report."""

from __future__ import annotations

import logging
import resource
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from flwr.serverapp import Grid

from server.evaluation.external_segmentation import ARM
from server.evaluation.external_validation import Trained, validate_externally
from server.evaluation.metric_rows import internal_rows
from server.evaluation.remote_external_validation import validate_at_node
from server.federation.model_selection import best_record
from server.federation.participants import Progress
from server.federation.rounds import Federation
from server.monitoring.mlflow_tracking import open_tracking
from server.reports.page import build_report
from server.run_folder.journal import RoundRecord, RunFolder
from server.run_folder.participation import sentence
from server.run_folder.results import Provenance, ResultRow, Role, TrainedTask, read_results, write_results
from shared.cohort.site_folder import open_site_folder
from shared.config.run_config import RunConfig
from shared.config.sections import TaskName
from shared.errors import SiteError
from shared.messages.payload import Sums, sums_of
from shared.metrics.score_sums import LABELS, ClassificationSums
from shared.runtime.project import project_root
from shared.tasks import task_named

log = logging.getLogger(__name__)

REPORTED = ("flwr", "torch", "monai", "numpy", "SimpleITK", "pydicom", "highdicom", "fedbreast")


def ensure_data(config: RunConfig, on_progress: Progress) -> None:
    """Make the phantom where the configuration asks for one and it is not there yet.

    Raises
    ------
    SiteError
        There are no data and none are to be made.

    """
    root = project_root() / config.data.root
    if config.data.phantom is None:
        if not root.is_dir():
            raise SiteError(
                f"data.root '{config.data.root}' does not exist below {project_root()}: put one folder a site there, "
                "or add [data.phantom] to have phantoms made",
            )
        return
    from shared.phantom.generate import PhantomSettings, generate_federation

    settings = PhantomSettings(**config.data.phantom.model_dump())
    generate_federation(root, settings, on_progress=lambda done, total: on_progress("phantom", done, total, "patients"))


def run(grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress) -> list[ResultRow]:
    """Run a federation to its report; return the rows of `results.csv`.

    Raises
    ------
    FedBreastError
        What ended it; committed rounds stay and the run may be resumed.

    """

    def facts() -> dict[str, str]:
        return {"git": git_commit(), "phantom": "yes" if is_phantom(config) else "no"}

    with open_tracking(config, folder, facts) as tracking:
        rows = _run(grid, config, folder, on_progress, tracking.judged)
        tracking.finish()
    return rows


def _run(
    grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress, on_judged: Callable[[RoundRecord], None]
) -> list[ResultRow]:
    if (folder.path / "results.json").is_file():
        # The locked centre is not opened a second time.
        log.info("the run is finished: only its report is made again")
        build_report(folder.path)
        return list(read_results(folder.path).rows)
    for name in config.tasks:
        task_named(name).check()
    started = time.perf_counter()
    federation = Federation(grid, config, folder, on_progress, on_judged)
    federation.register()
    assert federation.plan is not None  # noqa: S101 - register made it
    rows: list[ResultRow] = []
    trained: dict[TaskName, Trained] = {}
    tasks: dict[str, TrainedTask] = {}
    for name in config.tasks:
        records = federation.train(name)
        best, final = best_record(records), records[-1]
        chosen = {item.model_hash: item for item in (best, final)}
        models = {model_hash: folder.model(item) for model_hash, item in chosen.items()}
        rows += _internal(federation, config.for_task(name), chosen, models)
        trained[name] = Trained(models, best.model_hash, {key: _thresholds(item) for key, item in chosen.items()})
        tasks[name] = TrainedTask(
            best=best.model_hash, final=final.model_hash, best_round=best.round, rounds=len(records) - 1
        )
    seconds = {"federation": time.perf_counter() - started}
    if config.data.external is not None:
        centre = config.data.external

        def watch(done: int, total: int) -> None:
            on_progress("external", done, total, centre)

        if federation.participants.external():
            rows += validate_at_node(federation.participants, trained, watch)
        else:
            site = project_root() / config.data.root / centre
            rows += validate_externally(folder, site, config, federation.plan, trained, watch)
    seconds["total"] = time.perf_counter() - started
    folder.write(
        "seconds.json", (str({key: round(value, 1) for key, value in seconds.items()}).replace("'", '"')).encode()
    )
    federation.participation.external(rows)
    federation.participation.write()
    missing = federation.participation.missing()
    if missing:
        log.warning("%s", sentence(missing))
    write_results(folder.path, rows, _provenance(config, folder, tasks, seconds["total"], missing))
    on_progress("report", 0, 1, "")
    build_report(folder.path)
    on_progress("report", 1, 1, "")
    federation.participants.states.finish()
    return rows


def _internal(
    federation: Federation,
    view: RunConfig,
    records: Mapping[str, RoundRecord],
    models: Mapping[str, Mapping[str, torch.Tensor]],
) -> list[ResultRow]:
    """Figures of the training sites: validation of each chosen round as journalled, test as asked for now."""
    rows: list[ResultRow] = []
    kind = sums_of(view.task)
    for model_hash, record in records.items():
        validation = {
            name: kind.from_dict(entry.validation) for name, entry in record.sites.items() if entry.validation
        }
        test = federation.evaluate(record, models[model_hash])
        roles: tuple[tuple[Role, Mapping[str, Sums]], ...] = (("validation", validation), ("test", test))
        for role, sums in roles:
            rows += internal_rows(
                sums,
                view.evaluation,
                task=view.task,
                arm=ARM,
                seed=view.seed,
                role=role,
                model_hash=model_hash,
            )
    return rows


def _thresholds(record: RoundRecord) -> dict[str, float | None]:
    """Operating point of each label on the sites' validation cases; nothing for a segmentation."""
    sums = record.validation()
    return {label: sums.threshold(label) for label in LABELS} if isinstance(sums, ClassificationSums) else {}


def _provenance(
    config: RunConfig, folder: RunFolder, tasks: dict[str, TrainedTask], seconds: float, missing: tuple[str, ...]
) -> Provenance:
    return Provenance(
        name=folder.path.name,
        created=datetime.now(UTC),
        git=git_commit(),
        versions=package_versions(),
        seeds={"training": config.seed} | ({"phantom": config.data.phantom.seed} if config.data.phantom else {}),
        tasks=tasks,
        seconds=seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        phantom=is_phantom(config),
        outcome="partial" if missing else "complete",
        missing=missing,
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    return {name: metadata.version(name) for name in REPORTED}


def is_phantom(config: RunConfig) -> bool:
    """Whether the data are phantoms: the configuration makes them, or the external centre's folder says so."""
    if config.data.phantom is not None or config.data.external is None:
        return config.data.phantom is not None
    folder: Path = project_root() / config.data.root / config.data.external
    return getattr(open_site_folder(folder), "kind", "") == "phantom"


def git_commit() -> str:
    """Commit of the checkout, `-dirty` where tracked files were changed; empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607 - the user's git
            cwd=project_root(),
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
