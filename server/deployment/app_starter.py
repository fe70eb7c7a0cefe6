"""Flower's SuperExec for a SuperLink's apps, without a task's token on a command line, which every user can read.

The SuperLink starts it in place of Flower's own command. The token, with which the run's messages can be read and
answered, is handed over in a file without a name.
"""

from __future__ import annotations

import subprocess
import tempfile
from typing import Any

from shared.runtime.flower_internals import flower_internal, replace_flower_internal

COMMANDS = flower_internal("flwr.supercore.constant:TASK_TYPE_TO_COMMAND")
ADDRESS_OPTIONS = flower_internal("flwr.supercore.constant:TASK_TYPE_TO_APPIO_API_ADDRESS_ARG")
LaunchResult = flower_internal("flwr.supercore.superexec.executor:LaunchResult")
SubprocessExecutor: Any = flower_internal("flwr.supercore.superexec.executor:SubprocessExecutor")


class Starter(SubprocessExecutor):  # type: ignore[misc]
    """Starts the process of a task with its token in an open file."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def launch(self, spec: Any) -> Any:
        """As Flower's."""
        command = [COMMANDS[spec.task_type], ADDRESS_OPTIONS[spec.task_type], spec.runtime_api_address]
        command += ["--parent-pid", str(spec.parent_pid)] if spec.parent_pid is not None else []
        if spec.insecure:
            command += ["--insecure"]
        elif spec.root_certificates_path is not None:
            command += ["--root-certificates", spec.root_certificates_path]
        with tempfile.TemporaryFile() as file:
            file.write(spec.token.encode())
            file.seek(0)
            process = subprocess.Popen([*command, "--token-file", "/dev/stdin"], stdin=file)  # noqa: S603 - Flower's
        self.started = [*(item for item in self.started if item.poll() is None), process]
        return LaunchResult.accepted()


def main() -> None:
    """Run Flower's command with this starter."""
    replace_flower_internal("flwr.supercore.superexec.run_superexec:get_executor", lambda *_, **__: Starter())
    flower_internal("flwr.supercore.cli:flower_superexec")()


if __name__ == "__main__":
    main()
