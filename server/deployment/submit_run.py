"""A run of a consortium: submitted to its SuperLink, followed, and resumed when the server was killed."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from server.deployment.flower_cli import SUPERLINK_ENDED, Link, Watch, flwr, follow, keep_log, submit
from server.deployment.server_kit import ServerKit
from server.deployment.superlink import CONNECTION, LOG, write_connection
from shared.errors import RunError
from shared.runtime.app_bundle import STAGE, stage_app
from shared.runtime.children import listens
from shared.runtime.flower_home import launch_environment
from shared.runtime.project import project_root

RESUMES = 20
"""How often in a row a run is resumed after its server died, without a new round in between."""
_BACK_WITHIN_S = 300.0
_STARTING_S = 60.0


def run_on_server(
    kit: ServerKit,
    config_path: Path,
    *,
    run_name: str,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run the Flower app of this checkout on a consortium and wait for its end; otherwise as `simulation.run_flower`.

    `fedbreast serve` must be running with the server's kit on this machine. Ctrl-C stops the run on the server as well.

    Raises
    ------
    RunError
        The run did not finish; the message says why.
    KeyboardInterrupt
        On Ctrl-C; the run is stopped on the server as well.

    """
    run_dir = project_root() / "runs" / run_name
    agreed = ",".join(f"{site}={cases}" for site, cases in kit.most_cases().items())
    always: dict[str, int | str] = {"consortium": True, "most-cases": agreed}
    more = {"resume": resume, **always, **(overrides or {})}
    with tempfile.TemporaryDirectory(prefix="fb-") as scratch:
        home = Path(scratch)
        write_connection(kit, home)
        app = stage_app(project_root(), home / STAGE)
        port = kit.server.superlink_port
        link = Link(CONNECTION, launch_environment(home), kit.state / LOG, lambda: listens(port))
        patience, why = _STARTING_S if kit.is_in_use() else 0.0, ""
        vain, rounds = -1, 0
        while vain < RESUMES:
            _wait_for_server(kit, patience)
            patience, since = _BACK_WITHIN_S, time.time()
            before, rounds = rounds, len(list(run_dir.glob("journal/*/round-*.json")))
            vain = vain + 1 if rounds == before else 0
            try:
                run_id = submit(link, app, {"config": str(config_path.resolve()), "run-name": run_name, **more})
            except RunError:
                if link.is_alive():
                    raise
                why = SUPERLINK_ENDED
                continue
            try:
                failure = follow(link, run_id, run_dir / "progress.json", since, watch)
            except KeyboardInterrupt:
                flwr(["flwr", "stop", run_id, CONNECTION], link.environment)
                raise
            if failure is None:
                return
            why, started = failure.why, (run_dir / "config.toml").is_file()
            if failure.own or not (started or why == SUPERLINK_ENDED):
                raise RunError(f"{why}; more in {keep_log(link, run_id, run_dir)}")
            # Its server died, not the run itself. Committed rounds stand; a resumed run keeps its own settings.
            if started:
                more = {"resume": run_name, **always}
    raise RunError(f"{why}: resumed {RESUMES} times in vain; committed rounds are kept")


def _wait_for_server(kit: ServerKit, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not listens(kit.server.superlink_port):
        if time.monotonic() > deadline:
            start = f"fedbreast serve {shlex.quote(str(kit.folder))}"
            raise RunError(f"no server runs with {kit.folder} on this machine: start `{start}`")
        time.sleep(0.5)
