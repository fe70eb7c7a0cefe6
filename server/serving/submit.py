"""A run on a consortium: submitted to its SuperLink, followed, and taken up again when the server was killed."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from server.flower_run import Watch, flwr, follow, keep_log, submit
from server.serving.kit import ServerKit
from server.serving.superlink import CONNECTION, write_connection
from shared.bundle import STAGE, stage_app
from shared.errors import RunError
from shared.flower_home import launch_environment
from shared.progress import read_progress
from shared.project import project_root

RESUMES = 20
"""How often a run is taken up again after its server died."""
_BACK_WITHIN_S = 300.0


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
        As in `server.launch.run_flower`.

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
        patience = 0.0
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
            run_id = submit(app, CONNECTION, home / "run.toml", environment)
            try:
                fault = follow(
                    run_id,
                    CONNECTION,
                    run_dir / "progress.json",
                    started,
                    environment,
                    lambda: _listens(kit.server.superlink_port),
                    watch,
                )
            except KeyboardInterrupt:
                flwr(["flwr", "stop", run_id, CONNECTION], environment)
                raise
            if fault is None:
                return
            moment = read_progress(run_dir / "progress.json")
            own = moment is not None and moment.at >= started and moment.phase == "failed"
            if own or not (run_dir / "config.toml").is_file():
                log = keep_log(run_id, CONNECTION, kit.state / "superlink.log", run_dir, environment)
                raise RunError(f"{fault}; more in {log}")
            # Not the run's own end: its server died. What is committed stands; a resumed run is what it was begun as.
            resume, overrides = run_name, {}
    raise RunError(f"{fault}: taken up again {RESUMES} times in vain; what is committed is kept")


def _wait_for_server(kit: ServerKit, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _listens(kit.server.superlink_port):
        if time.monotonic() > deadline:
            raise RunError(f"no server runs with {kit.folder} on this machine: start `fedbreast serve {kit.folder}`")
        time.sleep(0.5)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
