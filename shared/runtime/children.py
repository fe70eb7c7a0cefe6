"""Child processes that write to a log file: started, waited for until they are ready, and ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.errors import RunError

_LINES = 12
_LOOK_EVERY_S = 0.05

Child = subprocess.Popen[bytes]


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None) -> Child:
    """Start a command in a session of its own, so that Ctrl-C does not reach it; its output is appended to a log.

    Parameters
    ----------
    command, environment
        What to run, and with which environment variables.
    log
        Receives standard output and standard error.
    folder
        Working directory; None: that of this process.

    """
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603 - commands of our own
            list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def child(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None, grace_s: float = 10.0
) -> Iterator[Child]:
    """Run a command as `start` does while the context lasts; then SIGTERM, and SIGKILL after `grace_s` seconds."""
    process = start(command, log, environment, folder)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(process: Child, name: str, log: Path, within_s: float, is_ready: Callable[[], bool]) -> None:
    """Wait until a child is ready.

    Raises
    ------
    RunError
        It ended first, or was not ready within `within_s` seconds; the end of its log is in the message.

    """
    deadline = time.monotonic() + within_s
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunError(f"{name} did not start:\n{tail(log)}")
        time.sleep(_LOOK_EVERY_S)


def tail(log: Path) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LINES:])
