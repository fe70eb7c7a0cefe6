"""`flwr run` with every process owned: its own SuperLink, home and ports, all of it ended whatever happens.

Left to itself `flwr run` starts a SuperLink that stays, and a later run meets it with the first run's environment. Here
each run has its own, named by address (Flower then treats it as the user's) and marked by an environment variable that
all its processes inherit: Ray's daemons leave the process tree, the mark stays with them.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from server.deployment.flower_cli import Watch, follow, keep_log, submit, tail
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.runtime.app_bundle import STAGE, stage_app
from shared.runtime.flower_home import launch_environment
from shared.runtime.processes import MARK, end_processes, guarded
from shared.runtime.project import project_root

CONNECTION = "own"

_STARTUP_S = 90.0


def run_flower(
    config_path: Path,
    *,
    run_name: str,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run the Flower app of this checkout in a simulation and wait for its end.

    Parameters
    ----------
    config_path
        The run's configuration.
    run_name
        Folder below `runs/`.
    resume
        Name of the run to go on with; then `run_name` is the same.
    overrides
        More keys of `[tool.flwr.app.config]`: `seed`, `rounds`.
    watch
        Called with each new moment of the run's progress.

    Raises
    ------
    RunError
        The run did not finish; says why. `KeyboardInterrupt` on SIGINT, SIGTERM and SIGHUP. No process is left.

    """
    config = load_config(config_path)
    run_dir = project_root() / "runs" / run_name
    home = Path(tempfile.mkdtemp(prefix="fb-"))
    try:
        settings = {"config": str(config_path.resolve()), "run-name": run_name, "resume": resume}
        (home / "run.toml").write_text(tomli_w.dumps(settings | dict(overrides or {})), encoding="utf-8")
        app = stage_app(project_root(), home / STAGE)
        environment = launch_environment(home)
        with guarded(home, environment[MARK]), _superlink(home, environment) as superlink:
            started = time.time()
            gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if config.compute.device != "cpu" else 0
            options = ["--federation-config", federation_options(len(config.data.sites), gpus)]
            run_id = submit(app, CONNECTION, home / "run.toml", environment, options)
            ended = follow(
                run_id,
                CONNECTION,
                run_dir / "progress.json",
                started,
                environment,
                lambda: superlink.poll() is None,
                watch,
            )
            if ended is not None:
                log = keep_log(run_id, CONNECTION, home / "flower.log", run_dir, environment)
                raise RunError(f"{ended.why}; more in {log}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _superlink(home: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a SuperLink of our own for as long as the context lasts; end with it all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    connection = {"superlink": {"default": CONNECTION, CONNECTION: {"address": f"127.0.0.1:{port}", "insecure": True}}}
    (home / "config.toml").write_text(tomli_w.dumps(connection), encoding="utf-8")
    with _signals_as_interrupt(), (home / "flower.log").open("wb") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=home, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            _wait_until_up(process, port, home)
            yield process
        finally:
            with _handlers(signal.SIG_IGN, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
                end_processes(environment[MARK])
                process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, home: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:  # URLError is one
            time.sleep(0.1)
    raise RunError("Flower's SuperLink did not start:\n" + tail(home / "flower.log"))


def federation_options(sites: int, gpus: int) -> str:
    """Flower's simulation settings: all sites at once, each single-threaded, so that they share the cores evenly."""
    options = f"num-supernodes={sites} client-resources-num-cpus=1 init-args-num-cpus={sites}"
    if gpus:
        share = int(100 * min(gpus / sites, 1)) / 100
        options += f" client-resources-num-gpus={share} init-args-num-gpus={gpus}"
    return options


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run the way Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with _handlers(interrupt, (signal.SIGTERM, signal.SIGHUP)):
        yield


@contextmanager
def _handlers(handler: Any, signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    before = {item: signal.signal(item, handler) for item in signals}
    try:
        yield
    finally:
        for item, old in before.items():
            signal.signal(item, old)
