"""Starts the app for each message: Flower's SuperExec, with its secrets hidden from other users of the machine.

A node gives out its work on loopback, where every user of the machine can call, and every user can read command lines.
Flower can demand a secret from whoever asks for work, but does not when the node itself starts the SuperExec. And it
puts each task's token, which allows to read the message and to answer it, on a command line. So the node starts this
file instead. The node's secret comes over standard input. A token goes to the warm process through its socket or, if
none answers, to a process of its own as an open file without a name.

Only ClientApps are started: no other kind of task is asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from client.node.warm_process import hand_over
from shared.runtime.children import ISOLATED, START
from shared.runtime.flower_internals import flower_internal, replace_flower_internal

TaskType = flower_internal("flwr.supercore.constant:TaskType")
ADDRESS_OPTIONS = flower_internal("flwr.supercore.constant:TASK_TYPE_TO_APPIO_API_ADDRESS_ARG")
LaunchResult = flower_internal("flwr.supercore.superexec.executor:LaunchResult")
SubprocessExecutor: Any = flower_internal("flwr.supercore.superexec.executor:SubprocessExecutor")


_WORKER = Path(__file__).with_name("warm_process.py")


class Starter(SubprocessExecutor):  # type: ignore[misc]
    """Starts Flower's app process for a task without its token on a command line.

    `door` is the Unix socket of the warm process, if there is one.
    """

    def __init__(self, door: Path | None) -> None:
        self._door = door
        self._cold: list[subprocess.Popen[bytes]] = []

    def get_eligible_capacity(self, supported_task_types: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
        """The only kind of task that is asked for."""
        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def launch(self, spec: Any) -> Any:
        """Start the app's process, by the warm process if that answers."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed("a hospital's node starts nothing but its app")
        arguments = [ADDRESS_OPTIONS[spec.task_type], spec.runtime_api_address, "--insecure"]
        arguments += ["--parent-pid", str(spec.parent_pid)]
        if self._door is None or not hand_over(self._door, [*arguments, "--token", spec.token]):
            running = [item for item in self._cold if item.poll() is None]
            self._cold = [*running, _start_cold(arguments, spec.token)]
        return LaunchResult.accepted()


def _start_cold(arguments: list[str], token: str) -> subprocess.Popen[bytes]:
    """Start what the warm process would fork. It reads a token from a file only: its standard input is that file."""
    with _unnamed_file(token.encode()) as file:
        return subprocess.Popen([*ISOLATED, str(_WORKER), *arguments, "--token-file", "/dev/stdin"], stdin=file)  # noqa: S603


@contextmanager
def _unnamed_file(content: bytes) -> Iterator[IO[bytes]]:
    """A file without a name: no other process can open it."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def start(port: int, door: str | None, parent: int, secret: bytes) -> subprocess.Popen[bytes]:
    """Start this file as an isolated process of its own, and return it; keep that for as long as the node lives.

    Parameters
    ----------
    port, secret
        Port on loopback where the node gives out its work, and what it demands from whoever asks for some.
    door
        Unix socket of the warm process; None if there is none.
    parent
        Number of the node's process; when that ends, the starter ends too.

    """
    settings = json.dumps({"port": port, "door": door, "parent": parent})
    program = Path(__file__).resolve().parents[2]
    with _unnamed_file(secret) as file:
        return subprocess.Popen(  # noqa: S603 - ourselves
            [*ISOLATED, str(program / START), "client.node.app_starter", settings], stdin=file
        )


def main() -> None:
    """Ask for work until the node ends: `python -m client.node.app_starter SETTINGS < SECRET`."""
    settings = json.loads(sys.argv[1])
    flower_internal("flwr.supercore.utils:disable_process_dumping")(strict=False)  # as Flower's own command does
    starter = Starter(Path(settings["door"]) if settings["door"] else None)
    replace_flower_internal("flwr.supercore.superexec.run_superexec:get_executor", lambda *_, **__: starter)
    flower_internal("flwr.supercore.superexec.run_superexec:run_superexec")(
        runtime_api_address=f"127.0.0.1:{settings['port']}",
        insecure=True,
        superexec_auth_secret=sys.stdin.buffer.read(),
        parent_pid=int(settings["parent"]),
    )


if __name__ == "__main__":
    main()
