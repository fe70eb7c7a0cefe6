"""nginx in front of the SuperLink: the only port open to hospitals, and only the fleet's calls pass.

Flower's control calls need no more than the authority's certificate, which every site has. And a node's signature
covers only a time, so whoever intercepts its header could use it for five minutes. nginx closes both: a client must
show a certificate of the consortium that is not revoked, may use it only with its own node key, and reaches nothing
but `/v1/fleet/`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from server.deployment.server_kit import ServerKit, SiteKey
from server.deployment.template import fill_template
from shared.errors import RunError
from shared.runtime.children import Child, start, wait_until_ready

LARGEST_CALL_MB = 16
"""Flower sends weights in pieces of 5 MB."""
CALLS_A_SECOND = 100
CONNECTIONS = 16
STRANGERS_CALLS_A_SECOND = 20
"""By address, of callers without a valid certificate."""
STALLED_S = 60
"""A request body that pauses for so long is cut off."""
HURRY_S = 10
"""Time for the TLS handshake, and as much for the headers: until then nothing is known of the caller."""
SLOTS = 8192
"""Connections per worker. A stranger takes one, and 50 KB, for as long as nginx waits for him."""
_OWN_FILES = 100
_REFUSED = 401  # Flower's node ends at once; on 403 it would believe that the run is over and go on asking
_STARTUP_S = 10.0
_LOOK_EVERY_S = 0.05

# nginx overwrites its environment, and with it the mark by which a run's processes are recognised. This shell keeps the
# mark and ends when nginx does; it ignores the signals that are sent to the whole group.
_SHELL = 'trap "" TERM HUP; "$@"; exit $?'


@contextmanager
def run_nginx(kit: ServerKit, environment: Mapping[str, str], host: str = "0.0.0.0") -> Iterator[Child]:  # noqa: S104 - see above
    """Run nginx while the context lasts; a `RunError` says why it does not start."""
    program = _program(environment)
    _end_leftover(kit)
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

    The sites to let in are those given, or else those that the kit lists now.

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


def draft_conf(kit: ServerKit, sites: Sequence[SiteKey], host: str) -> Path:
    """Write nginx's configuration beside the one in use, `nginx.conf`; return its path."""
    run = kit.state / "nginx"
    run.mkdir(parents=True, exist_ok=True)
    certificate, key = kit.certificate
    slots, files = _slots()
    text = fill_template(
        Path(__file__).with_name("nginx.conf.j2"),
        run=run,
        largest=LARGEST_CALL_MB,
        stalled=STALLED_S,
        finish=2 * STALLED_S,
        hurry=HURRY_S,
        slots=slots,
        files=files,
        rate=CALLS_A_SECOND,
        burst=4 * CALLS_A_SECOND,
        strangers=STRANGERS_CALLS_A_SECOND,
        connections=CONNECTIONS,
        refused=_REFUSED,
        sites=[(site, b64encode(site.public_key).decode()) for site in sites],
        superlink=kit.server.superlink_port,
        listen=f"{host}:{kit.server.port}",
        certificate=certificate,
        key=key,
        authority=kit.authority,
        revoked=kit.revoked,
    )
    draft = run / ".nginx.conf"
    draft.write_text(text, encoding="utf-8")
    return draft


def _slots() -> tuple[int, int]:
    """Connections and open files per worker, within what the system allows this process."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    slots = SLOTS if most == resource.RLIM_INFINITY else min(SLOTS, most - _OWN_FILES)
    return slots, slots + _OWN_FILES


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


def _end_leftover(kit: ServerKit) -> None:
    """End the nginx of an earlier start, of which all else was killed: nobody else uses this kit now.

    It is told by its command line, which names the kit's own configuration (Linux).
    """
    run = kit.state / "nginx"
    with suppress(OSError, ValueError):
        number = int((run / "nginx.pid").read_text())
        if str(run / "nginx.conf") in Path(f"/proc/{number}/cmdline").read_text():
            _end_group(os.getpgid(number))


def _end(process: Child) -> None:
    """End all of nginx: workers whose master was killed go on, and would keep the port from the next one."""
    _end_group(process.pid, process.poll)


def _end_group(group: int, reap: Callable[[], object] = lambda: None) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STARTUP_S
        with suppress(ProcessLookupError):
            os.killpg(group, number)
            while time.monotonic() < deadline:
                reap()
                os.killpg(group, 0)
                time.sleep(_LOOK_EVERY_S)
