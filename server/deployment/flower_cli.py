"""A run by Flower's own command line: submitted, followed to its end, its log kept when it failed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shared.atomic_files import replace_file
from shared.errors import RunError
from shared.runtime.progress import Progress, read_progress

_DYING_S = 20.0
_GLANCE_S = 0.3  # between looks at the progress file
_ASK_S = (3.0, 30.0)  # between questions to Flower: each starts a process
_LOG_S = 90.0
_LOG_LINES = 12
_UNKNOWN = "Run ID not found"
_RAISED = "ServerApp failed with exception: "  # Flower's words where the app ended itself

SUPERLINK_ENDED = "Flower's SuperLink ended before the run"

Watch = Callable[[Progress], None]


class Ended(NamedTuple):
    """Why a run did not complete, and whether by its own doing: such a run would end in the same way again."""

    why: str
    own: bool


def submit(
    app: Path, connection: str, settings: Path, environment: Mapping[str, str], options: Sequence[str] = ()
) -> str:
    """Start a run; return Flower's identifier of it.

    Parameters
    ----------
    app
        The staged app.
    connection
        Name of the SuperLink in Flower's `config.toml`.
    settings
        TOML file with the run's settings.
    environment
        With `FLWR_HOME`.
    options
        More of `flwr run`'s options.

    Raises
    ------
    RunError
        Flower did not take it.

    """
    answer = flwr(["flwr", "run", str(app), connection, "--run-config", str(settings), *options], environment)
    if not answer.get("run-id"):
        raise RunError(f"Flower did not take the run: {answer.get('error-message', 'no reason given')}")
    return str(answer["run-id"])


def flwr(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Call Flower's command line; return its JSON answer."""
    done = call([*command, "--format", "json"], environment)
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        return {"error-message": (done.stderr or done.stdout).strip()}
    return answer


def call(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output kept."""
    return subprocess.run(  # noqa: S603 - our own command
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def follow(
    run_id: str,
    connection: str,
    progress_file: Path,
    started: float,
    environment: Mapping[str, str],
    alive: Callable[[], bool],
    watch: Watch | None,
) -> Ended | None:
    """Wait for the run's end; None when it completed, else why not.

    Parameters
    ----------
    run_id, connection
        Flower's identifier of the run, and its name of the SuperLink.
    progress_file, started
        Where the server writes how far it is; what was written before `started`, seconds since 1970, is not read.
    environment
        With `FLWR_HOME`.
    alive
        Whether the SuperLink still runs.
    watch
        Called with each new moment.

    """
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
        if not alive():
            return Ended(SUPERLINK_ENDED, own=False)
        ended = shown is not None and shown.phase in {"done", "failed"}
        if time.monotonic() - asked < (_ASK_S[0] / 3 if ended else pause):
            continue
        answer = flwr(["flwr", "list", connection, "--run-id", run_id], environment)
        pause, asked = min(2 * pause, _ASK_S[1]), time.monotonic()
        status = (answer.get("runs") or [{}])[0]
        if status.get("status") == "finished:completed":
            return None
        verdict = _verdict(answer.get("error-message", ""), status, shown)
        if verdict is not None:
            return verdict


def _verdict(error: str, status: Mapping[str, str], shown: Progress | None) -> Ended | None:
    """Why the run ended, by Flower's answer and what the run itself told last; None: it goes on."""
    if _UNKNOWN in error:
        return Ended(SUPERLINK_ENDED, own=False)  # and another one was up before anybody looked
    finished, details = status.get("status", ""), status.get("status-details", "")
    if shown is not None and shown.phase == "failed":
        # Flower may wait long for workers that never came.
        over = finished.startswith("finished") or time.time() - shown.at > _DYING_S
        return Ended(shown.text, own=True) if over else None
    if not finished.startswith("finished"):
        return None
    if details.startswith(_RAISED):  # on a full disk the run could not tell it
        return Ended(details.removeprefix(_RAISED), own=True)
    return Ended(f"the run {finished.removeprefix('finished:')}: {details}", own=False)


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_LINES:])


def keep_log(run_id: str, connection: str, link: Path, run_dir: Path, environment: Mapping[str, str]) -> Path:
    """Keep what Flower logged of a failed run, the app's log and the SuperLink's, in the run's folder; say where."""
    command = ["flwr", "log", run_id, connection, "--show"]
    try:
        app = call(command, environment, timeout=_LOG_S).stdout
    except subprocess.TimeoutExpired:
        app = ""
    own = link.read_text(encoding="utf-8", errors="replace") if link.is_file() else ""
    kept = run_dir / "flower.log"
    # What ended the run may be that very disk: it is told, not how its log could not be written.
    with suppress(RunError):
        replace_file(kept, f"{app}\n--- SuperLink ---\n{own}".encode(), f"runs/{run_dir.name}")
    return kept if kept.is_file() else run_dir
