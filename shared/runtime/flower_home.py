"""The environment of Flower's processes, and its commands by a path that no shell has to quote."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

from shared.runtime.audit_log import AUDIT
from shared.runtime.processes import MARK
from shared.runtime.project import project_root

BINARIES = Path(sys.executable).parent  # of this environment: Flower's commands and what they start in turn

_HOME = "flower-"
_GUARD_S = 12.0
_LONGEST_HOME = 36  # a Unix socket's path ends at 107 characters; Ray adds about 70


def fresh_home(state: Path) -> Path:
    """Make a folder for Flower's files below a kit's `state`, once an earlier start that was killed is cleaned up.

    The earlier start's guard ends its processes, which hold the ports and the node's place at the server, and removes
    their folder last.
    """
    deadline = time.monotonic() + _GUARD_S
    while (old := list(state.glob(f"{_HOME}*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for folder in old:  # the guard was killed as well
        shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_HOME, dir=state))


def simulation_home() -> tempfile.TemporaryDirectory[str]:
    """Make the home of a simulation, whose path is short enough for Ray's sockets and which its user alone can enter.

    Ray opens its own folders to everybody: they must lie below this one, never in `/tmp` itself.
    """
    place = tempfile.gettempdir()
    short = place if len(place) + len("/fb-12345678") <= _LONGEST_HOME else "/tmp"  # noqa: S108
    return tempfile.TemporaryDirectory(prefix="fb-", dir=short, ignore_cleanup_errors=True)


def launch_environment(home: Path, audit_file: Path | None = None) -> dict[str, str]:
    """Environment variables of every process of a run, whose files of Flower and Ray lie in `home`.

    `audit_file` is the audit log of a consortium's server or site; a simulation has none.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLWR_", "RAY_"))}
    local = "127.0.0.1,localhost"
    environment |= {
        MARK: uuid.uuid4().hex,
        "PATH": str(plain_commands(home)) + os.pathsep + os.environ.get("PATH", os.defpath),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",  # MONAI imports MLflow wherever it is installed
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(home),  # else Ray would take TMPDIR, however long
        # Who reaches a Ray can run code in it. This variable, whose name says less than it does, binds all of it to
        # loopback, and the token keeps this machine's other users out.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "FEDBREAST_ROOT": str(project_root().resolve()),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        # Calls to this machine must not go through the hospital's proxy.
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), local))),
        "no_proxy": ",".join(filter(None, (os.environ.get("no_proxy"), local))),
    }
    if audit_file is not None:
        environment |= {AUDIT: str(audit_file), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}
    return environment


def plain_commands(home: Path) -> Path:
    """Folder of Flower's commands by a path that no shell has to quote.

    Ray starts its workers through a shell and does not quote the interpreter's path (`RuntimeEnvContext.exec_worker`):
    in a checkout with a blank in its path no worker would start. There a link below `home` leads to the environment,
    and each command is started by the interpreter behind that link.
    """
    if shlex.quote(str(BINARIES)) == str(BINARIES):
        return BINARIES
    (home / "env").symlink_to(BINARIES.parent, target_is_directory=True)
    linked, commands = home / "env" / BINARIES.name, home / "bin"
    commands.mkdir()
    for script in (path for pattern in ("flwr*", "flower*") for path in BINARIES.glob(pattern)):
        starter = commands / script.name
        starter.write_text(f'#!/bin/sh\nexec "{linked}/python" "{linked}/{script.name}" "$@"\n')
        starter.chmod(0o755)
    return commands
