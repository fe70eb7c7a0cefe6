"""`flwr run` with every process owned: its own SuperLink, home and ports, all of it ended whatever happens.

Left to itself `flwr run` starts a SuperLink that stays, and a later run meets it with the first run's environment. Here
each run has its own, named by address (Flower then treats it as the user's) and marked by an environment variable that
all its processes inherit: Ray's daemons leave the process tree, the mark stays with them.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from server.processes import MARK, end_processes, guarded
from server.staging import STAGE, federation_options, launch_environment, stage_app
from shared.config import RunConfig, load_config
from shared.errors import RunError
from shared.progress import Progress, read_progress
from shared.project import project_root

CONNECTION = "own"

_STARTUP_S = 90.0
_DYING_S = 20.0
_GLANCE_S = 0.3  # between looks at the progress file
_ASK_S = (3.0, 30.0)  # between questions to Flower: each starts a process
_LOG_LINES = 12

Watch = Callable[[Progress], None]


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
            run_id = _submit(app, config, home, environment)
            fault = _follow(run_id, run_dir / "progress.json", started, environment, superlink, watch)
            if fault is not None:
                log = _keep_log(run_id, home, run_dir, environment)
                raise RunError(f"{fault}; more in {log}")
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
    raise RunError("Flower's SuperLink did not start:\n" + _tail(home / "flower.log"))


def _submit(app: Path, config: RunConfig, home: Path, environment: Mapping[str, str]) -> str:
    """Start the run; return Flower's identifier of it."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if config.compute.device != "cpu" else 0
    command = ["flwr", "run", str(app), CONNECTION, "--run-config", str(home / "run.toml")]
    command += ["--federation-config", federation_options(len(config.data.sites), gpus)]
    answer = _flwr(command, environment)
    if not answer.get("run-id"):
        raise RunError(f"Flower did not take the run: {answer.get('error-message', 'no reason given')}")
    return str(answer["run-id"])


def _call(
    command: list[str], environment: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def _flwr(command: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Call Flower's command line; return its JSON answer."""
    done = _call([*command, "--format", "json"], environment)
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        return {"error-message": (done.stderr or done.stdout).strip()}
    return answer


def _follow(
    run_id: str,
    progress_file: Path,
    started: float,
    environment: Mapping[str, str],
    superlink: subprocess.Popen[bytes],
    watch: Watch | None,
) -> str | None:
    """Wait for the run's end; None when it completed, else why not."""
    shown: Progress | None = None
    pause, asked = _ASK_S[0], time.monotonic()
    while True:
        time.sleep(_GLANCE_S)
        moment = read_progress(progress_file)
        # The file of a resumed run still tells how the first attempt ended.
        if moment is not None and moment.at >= started and moment != shown:
            shown = moment
            if watch is not None:
                watch(moment)
        if superlink.poll() is not None:
            return "Flower's SuperLink ended before the run"
        ended = shown is not None and shown.phase in {"done", "failed"}
        if time.monotonic() - asked < (_ASK_S[0] / 3 if ended else pause):
            continue
        answer = _flwr(["flwr", "list", CONNECTION, "--run-id", run_id], environment)
        pause, asked = min(2 * pause, _ASK_S[1]), time.monotonic()
        status = (answer.get("runs") or [{}])[0]
        if status.get("status") == "finished:completed":
            return None
        if shown is not None and shown.phase == "failed" and time.time() - shown.at > _DYING_S:
            return shown.text  # Flower may wait long for workers that never came
        if str(status.get("status", "")).startswith("finished"):
            if shown is not None and shown.phase == "failed":
                return shown.text
            return f"the run {status['status'].removeprefix('finished:')}: {status.get('status-details', '')}"


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_LINES:])


def _keep_log(run_id: str, home: Path, run_dir: Path, environment: Mapping[str, str]) -> Path:
    """Keep what Flower logged of a failed run, the app's log and the SuperLink's, in the run's folder."""
    command = ["flwr", "log", run_id, CONNECTION, "--show"]
    try:
        app = _call(command, environment, timeout=_STARTUP_S).stdout
    except subprocess.TimeoutExpired:
        app = ""
    link = (home / "flower.log").read_text(encoding="utf-8", errors="replace")
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "flower.log").write_text(f"{app}\n--- SuperLink ---\n{link}", encoding="utf-8")
    return run_dir / "flower.log"


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
