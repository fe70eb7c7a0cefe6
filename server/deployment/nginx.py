"""nginx in front of the SuperLink: the one open port, and nothing behind it but the fleet's calls.

Flower's control calls need no more than the authority's certificate, which every site has; and a node's signature
covers only a time, so that whoever catches its header could use it for five minutes. nginx closes both: a client must
show a certificate of the consortium that is not revoked, may use it only with its own node key, and reaches
`/v1/fleet/` alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from server.deployment.nginx_conf import draft_conf
from server.deployment.server_kit import ServerKit, SiteKey
from shared.errors import RunError

_STARTUP_S = 10.0

# nginx writes over its environment, and with it the mark by which a run's processes are found: this shell keeps it, and
# ends when nginx does. It is deaf to what the whole group is sent.
_MARKED = 'trap "" TERM HUP; "$@"; exit $?'


@contextmanager
def front(kit: ServerKit, environment: Mapping[str, str], host: str = "0.0.0.0") -> Iterator[subprocess.Popen[bytes]]:  # noqa: S104 - see above
    """Run nginx for as long as the context lasts.

    Raises
    ------
    RunError
        nginx is not installed, its port is taken, or it does not start; its own words are in the message.

    """
    program = _program(environment)
    try:
        socket.create_server((host, kit.server.port)).close()
    except OSError as error:  # nginx would try for seconds, and say it five times
        raise RunError(f"cannot listen on {host}:{kit.server.port} ({error.strerror}): end what does") from error
    draft = draft_conf(kit, kit.sites(), host)
    path = draft.replace(draft.with_name("nginx.conf"))
    nginx = _command(program, path)
    (path.parent / "nginx.pid").unlink(missing_ok=True)
    with (path.parent / "start.log").open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - nginx with our own configuration
            ["/bin/sh", "-c", _MARKED, "nginx", *nginx], env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_up(process, path.parent)
        yield process
    finally:
        _end(process)


def reload(
    kit: ServerKit,
    process: subprocess.Popen[bytes],
    host: str = "0.0.0.0",  # noqa: S104 - see above
    sites: Sequence[SiteKey] | None = None,
) -> None:
    """Have nginx read sites, revocations and its own keys anew: idle connections end, the next call is judged by them.

    Parameters
    ----------
    kit, process, host
        As in `front`, which gave the process.
    sites
        Whom to let in; otherwise those that the kit lists now.

    Raises
    ------
    ConfigError
        The kit's sites cannot be read.
    RunError
        nginx would refuse it, and goes on as before; in its own words.

    """
    try:
        draft = draft_conf(kit, kit.sites() if sites is None else sites, host)
        # Told to a running nginx, what it cannot use would only be a line of its log.
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
        raise RunError(f"nginx cannot be told: {error}") from error


def logs(kit: ServerKit) -> tuple[Path, ...]:
    """What nginx writes without end."""
    return kit.state / "nginx" / "access.log", kit.state / "nginx" / "error.log"


def _program(environment: Mapping[str, str]) -> str:
    found = shutil.which("nginx", path=f"{environment.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RunError("nginx is not installed: `apt-get install nginx-light`, or use the server's container image")
    return found


def _command(program: str, conf: Path) -> list[str]:
    return [program, "-p", str(conf.parent), "-e", str(conf.parent / "error.log"), "-c", str(conf)]


def _wait_until_up(process: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "nginx.pid").is_file():
            return
        time.sleep(0.05)
    words = (run / "start.log").read_text(encoding="utf-8", errors="replace").strip()
    raise RunError(f"nginx did not start: {words or 'no reason given'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STARTUP_S)
