"""nginx in front of the SuperLink: the only port open to hospitals, and only the fleet's calls pass.

Flower's control calls need no more than the authority's certificate, which every site has. And a node's signature
covers only a time, so whoever intercepts its header could use it for five minutes. nginx closes both: a client must
show a certificate of the consortium that is not revoked, may use it only with its own node key, and reaches nothing
but `/v1/fleet/`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from server.deployment.nginx_conf import draft_conf
from server.deployment.server_kit import ServerKit, SiteKey
from shared.errors import RunError
from shared.runtime.children import Child, start, wait_until_ready

_STARTUP_S = 10.0

# nginx overwrites its environment, and with it the mark by which a run's processes are recognised. This shell keeps the
# mark and ends when nginx does; it ignores the signals that are sent to the whole group.
_SHELL = 'trap "" TERM HUP; "$@"; exit $?'


@contextmanager
def run_nginx(kit: ServerKit, environment: Mapping[str, str], host: str = "0.0.0.0") -> Iterator[Child]:  # noqa: S104 - see above
    """Run nginx while the context lasts.

    Raises
    ------
    RunError
        nginx is not installed, its port is in use, or it does not start; the message quotes nginx.

    """
    program = _program(environment)
    try:
        socket.create_server((host, kit.server.port)).close()
    except OSError as error:  # nginx would try for seconds, and say it five times
        raise RunError(f"cannot listen on {host}:{kit.server.port} ({error.strerror}): end what does") from error
    draft = draft_conf(kit, kit.sites(), host)
    path = draft.replace(draft.with_name("nginx.conf"))
    number, log = path.with_name("nginx.pid"), path.with_name("start.log")
    for old in (number, log):
        old.unlink(missing_ok=True)
    process = start(["/bin/sh", "-c", _SHELL, "nginx", *_command(program, path)], log, environment)
    try:
        wait_until_ready(process, "nginx", log, _STARTUP_S, number.is_file)
        yield process
    finally:
        _end(process)


def reload_nginx(
    kit: ServerKit,
    process: Child,
    host: str = "0.0.0.0",  # noqa: S104 - see above
    sites: Sequence[SiteKey] | None = None,
) -> None:
    """Have nginx read sites, revocations and its own keys again; idle connections end, the next call is checked anew.

    Parameters
    ----------
    kit, process, host
        As in `run_nginx`, which gave the process.
    sites
        The sites to let in; None: those that the kit lists now.

    Raises
    ------
    ConfigError
        The kit's sites cannot be read.
    RunError
        nginx refuses the configuration, and goes on with the old one; the message quotes nginx.

    """
    try:
        draft = draft_conf(kit, kit.sites() if sites is None else sites, host)
        # A running nginx would only log what it cannot use: test the configuration first.
        test = [*_command(_program(os.environ), draft), "-t", "-q"]
        done = subprocess.run(  # noqa: S603 - nginx with our own configuration
            test, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
            timeout=_STARTUP_S,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.splitlines()
            raise RunError(next((line for line in lines if "[emerg]" in line), (lines or ["nginx gives no reason"])[0]))
        draft.replace(draft.with_name("nginx.conf"))
        os.killpg(process.pid, signal.SIGHUP)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"nginx cannot be reloaded: {error}") from error


def nginx_logs(kit: ServerKit) -> tuple[Path, ...]:
    """The log files of nginx, which only grow."""
    return kit.state / "nginx" / "access.log", kit.state / "nginx" / "error.log"


def _program(environment: Mapping[str, str]) -> str:
    program = shutil.which("nginx", path=f"{environment.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RunError("nginx is not installed: `apt-get install nginx-light`, or use the server's container image")
    return program


def _command(program: str, conf: Path) -> list[str]:
    return [program, "-p", str(conf.parent), "-e", str(conf.parent / "error.log"), "-c", str(conf)]


def _end(process: Child) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STARTUP_S)
