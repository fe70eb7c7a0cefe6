"""Flower's command line: a run is submitted, followed until it ends, and its log is kept if it failed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from server.deployment.flower_commands import END
from shared.atomic_files import replace_file
from shared.errors import RunError
from shared.runtime.children import own_module
from shared.runtime.progress import Progress, read_progress

_DYING_S = 20.0
_LOOK_EVERY_S = 0.3  # at the progress file
_ASK_EVERY_S = (3.0, 30.0)  # Flower, at first and at most: each question starts a process
_LOG_S = 90.0
_UNKNOWN = "Run ID not found"
_RAISED = "ServerApp failed with exception: "  # Flower's words when the app ended itself

SUPERLINK_ENDED = "Flower's SuperLink ended before the run"

Watch = Callable[[Progress], None]


class Failure(NamedTuple):
    """Why a run did not complete, and whether by its own fault: such a run would fail again in the same way."""

    why: str
    own: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A running SuperLink, as Flower's command line reaches it: by its name in Flower's `config.toml`."""

    name: str
    environment: Mapping[str, str]
    """Environment variables for Flower's commands, with `FLWR_HOME`."""
    log: Path
    is_alive: Callable[[], bool]


def submit(link: Link, app: Path, settings: Mapping[str, int | str], options: Sequence[str] = ()) -> str:
    """Start a run of the staged app; return Flower's identifier of it.

    The settings, values for `[tool.flwr.app.config]`, are written to a file beside the app's folder. `options` are
    further ones of `flwr run`.

    Raises
    ------
    RunError
        Flower did not accept the run.

    """
    file = app.with_name("run.toml")
    file.write_text(tomli_w.dumps(settings), encoding="utf-8")
    answer = flwr(["flwr", "run", str(app), link.name, "--run-config", str(file), *options], link.environment)
    if not answer.get("run-id"):
        raise RunError(f"Flower did not accept the run: {answer.get('error-message', 'no reason given')}")
    return str(answer["run-id"])


def flwr(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Call Flower's command line; return its JSON answer."""
    done = call([*command, "--format", "json"], environment)
    return _answer(done.stdout, done.stderr)


def flwr_each(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """As `flwr`, for several commands one after the other, in one process."""
    given = json.dumps([[*command[1:], "--format", "json"] for command in commands])
    done = call(own_module("server.deployment.flower_commands"), environment, said=given)
    said, errors = done.stdout.split(END), done.stderr.split(END)
    none = [""] * len(commands)  # for those before which its process ended
    return [_answer(*both) for _, *both in zip(commands, said + none, errors + none, strict=False)]


def _answer(said: str, errors: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(said[said.index("{") :])
    except ValueError:
        return {"error-message": (errors or said).strip()}
    return answer


def call(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends, with `said` as its standard input, and capture its output."""
    return subprocess.run(  # noqa: S603 - our own command
        list(command),
        env=dict(environment),
        input=said,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def follow(link: Link, run_id: str, progress_file: Path, since: float, watch: Watch | None) -> Failure | None:
    """Wait for a run's end; None when it completed.

    `watch` is called each time its progress has changed. Progress from before `since` (seconds since 1970) is ignored:
    that of a resumed run still says how the first attempt ended.
    """
    last: Progress | None = None
    pause, asked_at = _ASK_EVERY_S[0], time.monotonic()
    while True:
        time.sleep(_LOOK_EVERY_S)
        progress = read_progress(progress_file)
        if progress is not None and progress.at >= since and progress != last:
            last = progress
            if watch is not None:
                watch(progress)
        if not link.is_alive():
            return Failure(SUPERLINK_ENDED, own=False)
        ending = last is not None and last.phase in {"done", "failed"}
        if time.monotonic() - asked_at < (_ASK_EVERY_S[0] / 3 if ending else pause):
            continue
        answer = flwr(["flwr", "list", link.name, "--run-id", run_id], link.environment)
        pause, asked_at = min(2 * pause, _ASK_EVERY_S[1]), time.monotonic()
        status = (answer.get("runs") or [{}])[0]
        if status.get("status") == "finished:completed":
            return None
        failure = _failure(answer.get("error-message", ""), status, last)
        if failure is not None:
            return failure


def _failure(error: str, status: Mapping[str, str], last: Progress | None) -> Failure | None:
    """Why the run failed, by Flower's answer and the run's last progress; None while it goes on."""
    if _UNKNOWN in error:
        return Failure(SUPERLINK_ENDED, own=False)  # and a new SuperLink was up before anybody noticed
    state, details = status.get("status", ""), status.get("status-details", "")
    if last is not None and last.phase == "failed":
        # Flower may wait long for workers that never came.
        over = state.startswith("finished") or time.time() - last.at > _DYING_S
        return Failure(last.text, own=True) if over else None
    if not state.startswith("finished"):
        return None
    if details.startswith(_RAISED):  # on a full disk the run could not write its progress
        return Failure(details.removeprefix(_RAISED), own=True)
    return Failure(f"the run {state.removeprefix('finished:')}: {details}", own=False)


def keep_log(link: Link, run_id: str, run_dir: Path) -> Path:
    """Write Flower's log of the app and the SuperLink's log into the run's folder; return the file's path."""
    try:
        app = call(["flwr", "log", run_id, link.name, "--show"], link.environment, timeout=_LOG_S).stdout
    except subprocess.TimeoutExpired:
        app = ""
    own = link.log.read_text(encoding="utf-8", errors="replace") if link.log.is_file() else ""
    path = run_dir / "flower.log"
    # A full disk may be what ended the run: then that is reported, not that this file cannot be written.
    with suppress(RunError):
        replace_file(path, f"{app}\n--- SuperLink ---\n{own}".encode(), f"runs/{run_dir.name}")
    return path if path.is_file() else run_dir
