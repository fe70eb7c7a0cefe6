"""What a run of Flower is given: an environment, a copy of the app, the simulation's settings."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import uuid
from pathlib import Path

from server.processes import MARK
from shared.errors import RunError
from shared.project import project_root

BINARIES = Path(sys.executable).parent  # of this environment: Flower's commands and what they start in turn
STAGE = "fedbreast"  # Flower wants letters, digits and hyphens: the checkout's own name may be anything

_APP = ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared", "configs")
_LONGEST_RAY_HOME = 36  # a Unix socket's path ends at 107 characters; Ray adds about 70


def launch_environment(home: Path) -> dict[str, str]:
    """Environment of every process of a run, whose files are below `home`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLWR_", "RAY_"))}
    local = "127.0.0.1,localhost"
    environment |= {
        MARK: uuid.uuid4().hex,
        "PATH": str(plain_commands(home)) + os.pathsep + os.environ.get("PATH", os.defpath),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FEDBREAST_ROOT": str(project_root().resolve()),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        # A proxy of the house must not be asked for this machine.
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), local))),
        "no_proxy": ",".join(filter(None, (os.environ.get("no_proxy"), local))),
    }
    # Else Ray would take TMPDIR, however long.
    environment["RAY_TMPDIR"] = str(home) if len(str(home)) <= _LONGEST_RAY_HOME else "/tmp"  # noqa: S108
    return environment


def plain_commands(home: Path) -> Path:
    """Folder of Flower's commands by a path that no shell has to quote.

    Ray starts its workers through a shell and does not quote the interpreter's path (`RuntimeEnvContext.exec_worker`):
    in a checkout with a blank in its path none would start. There a link below `home` leads to the environment, and
    each command is started by the interpreter behind that link.
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


def stage_app(root: Path, stage: Path) -> Path:
    """Copy what Flower ships to a folder with a name it accepts; a later edit of the checkout then changes no run."""
    stage.mkdir(parents=True)
    for name in _APP:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, stage / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.is_file():
            shutil.copy2(source, stage / name)
    if not (stage / "pyproject.toml").is_file():
        raise RunError(f"{root} is no FedBreast checkout (no pyproject.toml): call from there or set FEDBREAST_ROOT")
    return stage


def federation_options(sites: int, gpus: int) -> str:
    """Flower's simulation settings: all sites at once, each single-threaded, so that they share the cores evenly."""
    options = f"num-supernodes={sites} client-resources-num-cpus=1 init-args-num-cpus={sites}"
    if gpus:
        share = int(100 * min(gpus / sites, 1)) / 100
        options += f" client-resources-num-gpus={share} init-args-num-gpus={gpus}"
    return options
