"""The processes of a run, recognised by a mark that all of them inherit, and ended whatever happens.

The mark is an environment variable: Ray's daemons leave the process tree, but keep their environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.children import own_module

MARK = "FEDBREAST_LAUNCH"
_GRACE_S = 5.0
_PROC = Path("/proc/self/stat")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; `started` distinguishes it from a later process with the same number."""

    pid: int
    parent: int
    started: str
    marked: bool


def processes_of(mark: str) -> set[Process]:
    """Processes that carry a run's mark, and their descendants, which may have overwritten their environment."""
    others = [item for item in _all_processes(f"{MARK}={mark}") if item.pid != os.getpid()]
    pids = {item.pid for item in others if item.marked}
    while more := {item.pid for item in others if item.parent in pids} - pids:
        pids |= more
    return {item for item in others if item.pid in pids}


def end_processes(mark: str, keep: int = 0) -> None:
    """End every process of a run but the one to `keep`: SIGTERM, and after some seconds SIGKILL for those left."""

    def running() -> set[Process]:
        return {item for item in processes_of(mark) if item.pid != keep}

    known = running()
    for number, wait in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        for item in known:
            try:
                os.kill(item.pid, number)
            except (ProcessLookupError, PermissionError):
                continue
        deadline = time.monotonic() + wait
        while known and time.monotonic() < deadline:
            time.sleep(0.05)
            # Known processes are kept: once its parent is gone, only its number identifies a child. They are looked up
            # one by one, because a listing made while processes come and go may miss one.
            known = {item for item in known | running() if _runs(item)}


def _runs(process: Process) -> bool:
    """Whether a process still runs: one with the same number and the same start time."""
    running = (
        _read_process(process.pid)
        if _PROC.exists()
        else next((item for item in _ask_ps("") if item.pid == process.pid), None)
    )
    return running is not None and running.started == process.started


def _all_processes(needle: str) -> Iterator[Process]:
    """Every running process, zombies excluded; it is marked if its environment contains `needle`."""
    if not _PROC.exists():
        return _ask_ps(needle)
    pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return (process for pid in pids if (process := _read_process(pid, needle)) is not None)


def _read_process(pid: int, needle: str = "") -> Process | None:
    """A process from /proc, see proc(5); None if it has ended."""
    folder = Path("/proc") / str(pid)
    try:
        # The name in brackets may contain anything, also brackets. After it: state, parent, ..., start.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        state, parent, started = fields[0], int(fields[1]), fields[19]
    except (OSError, IndexError):
        return None
    marked = False
    with suppress(OSError):  # another user's environment
        marked = needle.encode() in (folder / "environ").read_bytes().split(b"\0")
    return None if state in {"Z", "X"} else Process(pid, parent, started, marked)


def _ask_ps(needle: str) -> Iterator[Process]:
    """The same from `ps` (macOS)."""
    command = ["ps", "-A", "-E", "-ww", "-o", "pid=,ppid=,stat=,lstart=,command="]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():  # noqa: S603
        pid, parent, state, rest = line.split(maxsplit=3)
        if not state.startswith("Z"):
            yield Process(int(pid), int(parent), " ".join(rest.split()[:5]), needle in rest.split())


@contextmanager
def guarded(home: Path, mark: str) -> Iterator[None]:
    """Have a second process clean up if this one is killed.

    It waits for the end of a pipe that only this process holds open. Otherwise Flower and Ray would run on for minutes.
    """
    guard = subprocess.Popen(  # noqa: S603 - ourselves
        [*own_module("shared.runtime.processes"), str(home), mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()


def guard(home: Path, mark: str) -> None:
    """Wait until standard input ends, then end a run's processes and remove its folder `home`."""
    sys.stdin.read()
    end_processes(mark)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), sys.argv[2])
