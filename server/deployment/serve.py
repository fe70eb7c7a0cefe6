"""`fedbreast serve`: SuperLink and nginx kept running, the kit's sites kept known, the status offered to observers."""

from __future__ import annotations

import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from filelock import FileLock, Timeout

from server.deployment.log_rotation import cut_if_long
from server.deployment.nginx import front, logs
from server.deployment.server_kit import ServerKit
from server.deployment.site_membership import Membership
from server.deployment.superlink import LOG, superlink
from shared.errors import ConfigError, RunError
from shared.runtime.audit import AUDIT
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_home import fresh_home, launch_environment
from shared.runtime.flower_internals import check_flower
from shared.runtime.processes import MARK, end_processes, guarded
from shared.runtime.project import project_root

_GLANCE_S = 0.3
_PAUSE_S = 1.0

Say = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's name and its facts."""


def serve(kit: ServerKit, say: Say, host: str = "0.0.0.0") -> None:  # noqa: S104 - hospitals come from outside
    """Serve the consortium until interrupted.

    Parameters
    ----------
    kit
        The server's kit.
    say
        Told of what happens: every event of the audit log.
    host
        Address that nginx and the status service listen on.

    Raises
    ------
    ConfigError
        The kit cannot be used.
    RunError
        Another server has it, a process does not start, or Flower has another version than the tested one.
    KeyboardInterrupt
        On SIGINT, SIGTERM and SIGHUP; no process is left.

    """
    from server.monitoring.status_service import serve_status

    check_flower()
    check_kit(kit)
    with ExitStack() as stack:
        stack.enter_context(_alone(kit))
        home = fresh_home(kit.state)
        environment = launch_environment(home) | {
            AUDIT: str(kit.state / "audit.jsonl"),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        }
        keeper = _Keeper(kit, home, environment, say)
        stack.enter_context(guarded(home, environment[MARK]))
        stack.callback(end_processes, environment[MARK])
        status = serve_status(kit.folder, project_root() / "runs", host, kit.server.status_port)
        stack.callback(status.stop, None)
        # First, so that it misses no change to what nginx starts with.
        members = Membership(kit, environment, host, keeper.note)
        nginx = stack.enter_context(front(kit, environment, host))
        keeper.note("serving-started", sites=len(kit.sites()), port=kit.server.port)
        try:
            while True:
                keeper.keep_superlink(nginx, members)
        finally:
            keeper.note("serving-ended")


class _Keeper:
    """What `serve` looks after."""

    def __init__(self, kit: ServerKit, home: Path, environment: Mapping[str, str], say: Say) -> None:
        self.kit, self.home, self.environment = kit, home, environment
        self._logs = (*logs(kit), kit.state / LOG)
        self._audit, self._say = AuditLog(kit.state / "audit.jsonl"), say

    def note(self, event: str, **facts: str | float) -> None:
        """Record an event and say it."""
        self._audit.record(event, **facts)
        self._say(event, facts)

    def keep_superlink(self, nginx: subprocess.Popen[bytes], members: Membership) -> None:
        """Run one SuperLink to its end; whatever it left behind is ended too."""
        with superlink(self.kit, self.home, self.environment) as process:
            members.start_over(nginx)
            self.note("superlink-ready", sites=members.registered)
            while process.poll() is None:
                time.sleep(_GLANCE_S)
                if nginx.poll() is not None:
                    raise RunError(f"nginx ended; see {self.kit.state / 'nginx' / 'error.log'}")
                members.glance(nginx)
                for path in self._logs:
                    cut_if_long(path)
        self.note("superlink-ended", code=process.returncode)
        time.sleep(_PAUSE_S)


def check_kit(kit: ServerKit) -> None:
    """Look at what can be wrong before anything starts.

    Raises
    ------
    ConfigError
        A file is missing or damaged, the certificate has expired, its key can be read by others, or there is no site.

    """
    certificate, key = kit.certificate
    for path in (kit.authority, certificate, key, kit.revoked):
        if not path.is_file():
            raise ConfigError(f"{path} is missing: provision the consortium again")
    if key.stat().st_mode & 0o077:
        raise ConfigError(f"{key} can be read by others: chmod 600 {key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        until = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{certificate} or {key} is damaged, or they are no pair: fedbreast rotate CONSORTIUM server"
        ) from error
    if until < datetime.now(UTC):
        raise ConfigError(f"the server's certificate expired on {until:%Y-%m-%d}: fedbreast rotate CONSORTIUM server")
    if not kit.sites():
        raise ConfigError(f"{kit.folder / 'sites'} lists no site: name them in CONSORTIUM.toml and provision")


@contextmanager
def _alone(kit: ServerKit) -> Iterator[None]:
    """Take the kit's state for this process (scenario 16)."""
    kit.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kit.state / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{kit.folder} is served by another process already: end it first") from error
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        lock.release()
