"""Processes that are ours from their start to their end, with all that they start themselves.

Flower's SuperLink starts a SuperExec, that a simulation, that Ray's daemons and workers, each in a session of its own and
some orphaned on the way. They are followed by process number and start time, never by name: another user's SuperLink on
the same machine is none of ours. Only the standard library is imported: `python -m server.processes` must start at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

GRACE_S = 3.0
"""How long processes have to end after each signal."""
_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised where Ctrl-C would be."""


class ProcessFamily:
    """Processes started here and their descendants; all have ended when the `with` block is left, however it is left."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self._seen: dict[int, str] = {}
        self._looked = 0.0

    def __enter__(self) -> ProcessFamily:
        # Orphans become this process's children instead of vanishing below process 1 (Linux only).
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _deaf():
            self.end()
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)

    def start(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command; it is told to end when this process dies, also by SIGKILL (Linux).

        Parameters
        ----------
        command
            Program and arguments.
        env, cwd
            Its whole environment and working directory.
        output
            File that its output is appended to.

        """
        tied = [sys.executable, str(Path(__file__).resolve()), str(os.getpid()), *command]
        with output.open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603 - commands of this project
                tied, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        self._started.append(process)
        self.look(now=True)
        return process

    def look(self, *, now: bool = False) -> None:
        """Note new descendants; to be called often, for an orphan is known only by having been seen before."""
        if not now and time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        table = _process_table()
        ours = {os.getpid(), *self._alive(table)}
        grown = True
        while grown:
            children = {pid for pid, (parent, _) in table.items() if parent in ours and pid not in ours}
            ours |= children
            grown = bool(children)
        for pid in ours - {os.getpid()}:
            self._seen[pid] = table[pid][1]

    def alive(self) -> list[int]:
        """Numbers of the family's processes that run now."""
        self.look(now=True)
        return self._alive(_process_table())

    def end(self) -> None:
        """End all: first what was started here, which ends its own children, then whoever is left, then by force."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        self._wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.alive():
                _send(pid, number)
            self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + GRACE_S
        while self.alive() and time.monotonic() < until:
            time.sleep(0.05)

    def _alive(self, table: Mapping[int, tuple[int, str]]) -> list[int]:
        for process in self._started:
            process.poll()
        direct = {process.pid for process in self._started}
        for pid in set(self._seen) - direct:
            _reap(pid)
        return [pid for pid, start in self._seen.items() if pid in table and table[pid][1] == start]


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise `Interrupted` on SIGTERM and SIGHUP, so that `with` blocks end what they hold."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore a second Ctrl-C while the first is being obeyed."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _process_table() -> dict[int, tuple[int, str]]:
    """Parent and start time of every running process, zombies left out."""
    if Path("/proc/self/stat").is_file():
        return dict(_read_proc())
    listing = subprocess.run(  # macOS; `ps` is in POSIX
        ["ps", "-axo", "pid=,ppid=,state=,lstart="],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.split(None, 3) for line in listing.splitlines())
    return {int(pid): (int(parent), start) for pid, parent, state, start in rows if not state.startswith("Z")}


def _read_proc() -> Iterator[tuple[int, tuple[int, str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold blanks and brackets itself: fields are counted from its end (proc(5)).
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended in this moment
            if fields[0] not in {"Z", "X"}:
                yield int(entry.name), (int(fields[1]), fields[19])


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended in this moment


def _reap(pid: int) -> None:
    """Collect a dead orphan that was handed to this process; others are not ours to collect."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _prctl(option: int, value: int) -> None:
    """Set a property of this process on Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _run_tied(parent: int, command: Sequence[str]) -> None:
    """Become `command`, to be sent SIGTERM when `parent` dies."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() == parent:  # otherwise it died before the line above
        os.execvp(command[0], list(command))  # noqa: S606 - no shell on purpose


if __name__ == "__main__":
    _run_tied(int(sys.argv[1]), sys.argv[2:])
