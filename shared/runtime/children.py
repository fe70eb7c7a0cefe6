"""Child processes: free ports for them, their start, their readiness, their end, and logs that stay short."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import RunError

_LINES = 12
_LOOK_EVERY_S = 0.05
LARGEST_LOG = 8 * 2**20
"""Bytes; twice that with the older part."""

Child = subprocess.Popen[bytes]
ISOLATED = (sys.executable, "-I", "-u")
"""Python without the working folder, the user's own packages and Python's variables, and with no delay in its logs."""
START = "fedbreast.py"
"""The file, at the root of the checkout, that then starts one of our modules from its source alone."""


def own_module(name: str) -> list[str]:
    """The command that starts a module of this checkout, isolated; arguments follow."""
    return [*ISOLATED, str(Path(__file__).resolve().parents[2] / START), name]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that no process uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def listens(port: int) -> bool:
    """Whether a process listens on a port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None) -> Child:
    """Start a command in a session of its own, so that Ctrl-C does not reach it; all output is appended to a log."""
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
    """Wait until a child is ready; if it ends first or takes over `within_s`, `RunError` quotes the end of its log."""
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


def cut_if_long(path: Path) -> None:
    """Copy a log that has grown too long to `NAME.1` and empty it: a full disk would end every run.

    It is not renamed, because its writers keep it open: nginx's workers may be a user who cannot open another file in
    the kit's state, and Flower's SuperLink never opens it again. A line written between copy and cut is lost.
    """
    with suppress(OSError):  # not there yet
        if path.stat().st_size <= LARGEST_LOG:
            return
        with suppress(OSError):  # on a full disk space matters more than the older part
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
