"""A run on a consortium: submitted to its SuperLink, followed, and taken up again when the server was killed."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import tomli_w
from filelock import FileLock, Timeout

from server.deployment.flower_cli import SUPERLINK_ENDED, Watch, flwr, follow, keep_log, submit
from server.deployment.server_kit import ServerKit
from server.deployment.superlink import CONNECTION, listens, write_connection
from shared.errors import RunError
from shared.runtime.app_bundle import STAGE, stage_app
from shared.runtime.flower_home import launch_environment
from shared.runtime.project import project_root

RESUMES = 20
"""How often a run is taken up again after its server died."""
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
    """Run the Flower app of this checkout on a served consortium and wait for its end.

    Parameters
    ----------
    kit
        The server's kit; `fedbreast serve` must be running with it on this machine.
    config_path, run_name, resume, overrides, watch
        As in `server.deployment.simulation.run_flower`.

    Raises
    ------
    RunError
        The run did not finish; says why. `KeyboardInterrupt` stops the run on the server as well.

    """
    run_dir = project_root() / "runs" / run_name
    with tempfile.TemporaryDirectory(prefix="fb-") as scratch:
        home = Path(scratch)
        write_connection(kit, home)
        app = stage_app(project_root(), home / STAGE)
        environment = launch_environment(home)
        patience = _STARTING_S if _is_served(kit) else 0.0
        fault = ""
        for _ in range(RESUMES + 1):
            _wait_for_server(kit, patience)
            patience = _BACK_WITHIN_S
            settings: dict[str, int | str] = {
                "config": str(config_path.resolve()),
                "run-name": run_name,
                "resume": resume,
            }
            settings |= {"consortium": True} | dict(overrides or {})
            (home / "run.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
            started = time.time()
            try:
                run_id = submit(app, CONNECTION, home / "run.toml", environment)
            except RunError:
                if listens(kit.server.superlink_port):
                    raise
                fault = SUPERLINK_ENDED
                continue
            try:
                ended = follow(
                    run_id,
                    CONNECTION,
                    run_dir / "progress.json",
                    started,
                    environment,
                    lambda: listens(kit.server.superlink_port),
                    watch,
                )
            except KeyboardInterrupt:
                flwr(["flwr", "stop", run_id, CONNECTION], environment)
                raise
            if ended is None:
                return
            fault, begun = ended.why, (run_dir / "config.toml").is_file()
            if ended.own or not (begun or fault == SUPERLINK_ENDED):
                log = keep_log(run_id, CONNECTION, kit.state / "superlink.log", run_dir, environment)
                raise RunError(f"{fault}; more in {log}")
            # Not the run's own end: its server died. What is committed stands; a resumed run is what it was begun as.
            if begun:
                resume, overrides = run_name, {}
    raise RunError(f"{fault}: taken up again {RESUMES} times in vain; what is committed is kept")


def _wait_for_server(kit: ServerKit, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not listens(kit.server.superlink_port):
        if time.monotonic() > deadline:
            start = f"fedbreast serve {shlex.quote(str(kit.folder))}"
            raise RunError(f"no server runs with {kit.folder} on this machine: start `{start}`")
        time.sleep(0.5)


def _is_served(kit: ServerKit) -> bool:
    """Whether a `fedbreast serve` holds the kit, also while its SuperLink is still starting."""
    lock = FileLock(kit.state / ".lock")
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # no state yet: never served
        return False
