"""The Flower ServerApp: configuration in, a run folder out. What happens in between is in `server.run`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from shared.errors import FedBreastError, RunError, SiteError, safe_error

if TYPE_CHECKING:
    from server.federation.participants import Progress
    from shared.config.run_config import RunConfig

log = logging.getLogger(__name__)

_LONGEST_REASON = 2000  # a line of the audit log is limited; the rest stands in the run's own log

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation; whatever ends it early is raised, so that Flower marks the run failed."""
    # Imported here: Flower imports this module to find `app`, and torch takes seconds.
    from server.federation.nonblocking_grid import whole_answers
    from server.run import run
    from server.run_folder.journal import RunFolder
    from server.run_folder.participation import sentence
    from server.run_folder.results import read_results
    from shared.runtime.audit_log import record
    from shared.runtime.logs import log_to
    from shared.runtime.progress import write_progress
    from shared.runtime.project import load_run_config, project_root

    check_one_root(find_spec(room) for room in ("server", "client", "shared"))
    os.umask(0o077)  # images are this user's alone, as where our command line started this
    settings = context.run_config
    runs = project_root() / "runs"
    if resumed := str(settings.get("resume", "")):
        folder, config = RunFolder.resume(runs / resumed)
    else:
        config = load_run_config(settings)
        name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = RunFolder.create(runs / str(settings.get("run-name", "") or name), config)

    def report(phase: str, done: int, total: int, text: str) -> None:
        write_progress(folder.path / "progress.json", phase, done, total, text)

    with log_to(folder.path / "log.jsonl"):
        log.info("run %s, app loaded from %s", folder.path.name, Path(__file__).parent.parent)
        try:
            record("run-started", run=folder.path.name, resumed=bool(resumed), seed=config.seed)
            if bool(settings.get("consortium", False)):
                folder.write_most_cases(read_most_cases(str(settings.get("most-cases", ""))))
            else:
                _prepare_simulation(config, report)
            run(whole_answers(grid), config, folder, report)
        except Exception as error:
            if isinstance(error, FedBreastError):
                why = safe_error(error) if isinstance(error, SiteError) else str(error)
                log.error("the run ended: %s", why)  # noqa: TRY400 - our messages say all, a trace would not help
            else:
                why = f"{type(error).__name__}; see log.jsonl in the run's folder"
                log.exception("the run ended")
            report("failed", 0, 0, why)
            try:
                record("run-failed", run=folder.path.name, why=why[:_LONGEST_REASON])
            except (FedBreastError, OSError):  # it has ended all the same, and of the first error
                log.exception("that could not be recorded")
            raise
        finally:
            folder.release()
        missing = sentence(read_results(folder.path).provenance.missing)
        record("run-finished", run=folder.path.name, outcome="partial" if missing else "complete")
        report("done", 1, 1, missing)


def read_most_cases(text: str) -> dict[str, int]:
    """How many training cases a site may claim, from a run's setting `centre-a=400,centre-b=80`."""
    return {site: int(cases) for site, _, cases in (item.partition("=") for item in text.split(",") if item)}


def _prepare_simulation(config: RunConfig, on_progress: Progress) -> None:
    from server.deployment.simulation import ensure_data

    if os.environ.get("RAY_AUTH_MODE") != "token":
        log.warning("others can run code in this simulation's Ray: start it with `fedbreast run`")
    ensure_data(config, on_progress)


def check_one_root(rooms: Iterable[ModuleSpec | None]) -> None:
    """Check that `server`, `client` and `shared` come from one checkout or package.

    `RunError` where a foreign package of the same name came first on the path.
    """
    roots = {str(Path(str(room.origin)).resolve().parent.parent) for room in rooms if room}
    if len(roots) != 1:
        raise RunError(f"server, client and shared were loaded from different places ({', '.join(sorted(roots))})")
