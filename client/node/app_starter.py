"""What starts the app for each message: Flower's SuperExec, its secrets kept from the machine's other users.

A node hands out its work on loopback, where every user of the machine may call, and every user can read command lines.
Flower has a secret that whoever asks for work must know, but uses none where the node itself starts the SuperExec; and
it writes each task's token, with which one may read the message and answer it, in a command line. So the node starts
this file instead. The node's secret comes over standard input. A token goes through the warm process's door or, where
nobody answers there, to Flower's own command as an open file without a name.

Only apps at sites are started: nothing is asked for that a server might want besides.
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

from client.node.warm_process import COMMAND, hand_over
from shared.runtime.flower_internals import flower_internal, replace_flower_internal

TaskType = flower_internal("flwr.supercore.constant:TaskType")
ADDRESS_OPTIONS = flower_internal("flwr.supercore.constant:TASK_TYPE_TO_APPIO_API_ADDRESS_ARG")
LaunchResult = flower_internal("flwr.supercore.superexec.executor:LaunchResult")
SubprocessExecutor: Any = flower_internal("flwr.supercore.superexec.executor:SubprocessExecutor")


class Starter(SubprocessExecutor):  # type: ignore[misc]
    """Starts Flower's app process for a task, its token on no command line.

    Parameters
    ----------
    door
        Unix socket of the warm process; None where there is none.

    """

    def __init__(self, door: Path | None) -> None:
        self._door = door
        self._cold: list[subprocess.Popen[bytes]] = []

    def get_eligible_capacity(self, supported_task_types: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
        """The one kind of task that is asked for."""
        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def launch(self, spec: Any) -> Any:
        """Start the app's process, from the warm one when that answers."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed("a hospital's node starts nothing but its app")
        given = [ADDRESS_OPTIONS[spec.task_type], spec.runtime_api_address, "--insecure"]
        given += ["--parent-pid", str(spec.parent_pid)]
        if self._door is None or not hand_over(self._door, [*given, "--token", spec.token]):
            running = [item for item in self._cold if item.poll() is None]
            self._cold = [*running, _start_cold(given, spec.token)]
        return LaunchResult.accepted()


def _start_cold(given: list[str], token: str) -> subprocess.Popen[bytes]:
    """Start Flower's own command: it takes a token from a file only, and standard input may be one."""
    with _unnamed(token.encode()) as file:
        return subprocess.Popen([COMMAND, *given, "--token-file", "/dev/stdin"], stdin=file)  # noqa: S603 - Flower's


@contextmanager
def _unnamed(content: bytes) -> Iterator[IO[bytes]]:
    """A file without a name: only who is given it can open it."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def start(port: int, door: str | None, parent: int, secret: bytes) -> subprocess.Popen[bytes]:
    """Start this file as a process of its own.

    Parameters
    ----------
    port
        Where the node hands out its work, on loopback.
    door
        Unix socket of the warm process; None where there is none.
    parent
        Number of the node's process, with which it ends.
    secret
        What the node asks of whoever wants work.

    Returns
    -------
    subprocess.Popen
        The process; keep it for as long as the node lives.

    """
    given = json.dumps({"port": port, "door": door, "parent": parent})
    with _unnamed(secret) as file:
        return subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "client.node.app_starter", given],
            cwd=Path(__file__).resolve().parents[2],
            stdin=file,
        )


def main() -> None:
    """Ask for work until the node ends, the secret on standard input.

    `python -m client.node.app_starter '{"port": ...}'`.
    """
    given = json.loads(sys.argv[1])
    flower_internal("flwr.supercore.utils:disable_process_dumping")(strict=False)  # as Flower's own command does
    starter = Starter(Path(given["door"]) if given["door"] else None)
    replace_flower_internal("flwr.supercore.superexec.run_superexec:get_executor", lambda *_, **__: starter)
    flower_internal("flwr.supercore.superexec.run_superexec:run_superexec")(
        runtime_api_address=f"127.0.0.1:{given['port']}",
        insecure=True,
        superexec_auth_secret=sys.stdin.buffer.read(),
        parent_pid=int(given["parent"]),
    )


if __name__ == "__main__":
    main()
