"""`fedbreast serve`: keeps SuperLink and nginx running, registers the kit's sites, serves the status to observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from server.deployment.nginx import nginx_logs, run_nginx
from server.deployment.server_kit import ServerKit
from server.deployment.site_membership import Membership
from server.deployment.superlink import LOG, superlink
from shared.errors import ConfigError, RunError
from shared.runtime.audit_log import AuditLog
from shared.runtime.children import Child, cut_if_long
from shared.runtime.flower_home import fresh_home, launch_environment
from shared.runtime.flower_internals import check_flower
from shared.runtime.processes import MARK, end_processes, guarded
from shared.runtime.project import project_root

_LOOK_EVERY_S = 0.3
_PAUSE_S = 1.0

Say = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's name and its facts."""


def serve(kit: ServerKit, say: Say, host: str = "0.0.0.0") -> None:  # noqa: S104 - hospitals come from outside
    """Serve the consortium until interrupted; no process is left.

    Parameters
    ----------
    kit
        The server's kit, which no other process serves.
    say
        Called with every event that the audit log records.
    host
        Address that nginx and the status service listen on.

    Raises
    ------
    ConfigError
        The kit cannot be used.
    RunError
        Another process serves the kit, a process does not start, or Flower has another version than the tested one.
    KeyboardInterrupt
        On SIGINT, SIGTERM and SIGHUP; no process is left.

    """
    from server.monitoring.status_service import serve_status

    check_flower()
    kit.check(public=(kit.revoked,))
    if not kit.sites():
        raise ConfigError(
            f"{kit.folder / 'sites'} lists no site: let hospitals in with `fedbreast admit` and copy it here"
        )
    with ExitStack() as stack:
        stack.enter_context(kit.in_use())
        home = fresh_home(kit.state)
        environment = launch_environment(home, kit.audit_file)
        keeper = _Keeper(kit, home, environment, say)
        stack.enter_context(guarded(home, environment[MARK]))
        stack.callback(end_processes, environment[MARK])
        status = serve_status(kit.folder, project_root() / "runs", host, kit.server.status_port)
        stack.callback(status.stop, None)
        # Before nginx, so that no change to the files that nginx starts with is missed.
        members = Membership(kit, environment, host, keeper.note)
        nginx = stack.enter_context(run_nginx(kit, environment, host))
        keeper.note("serving-started", sites=len(kit.sites()), port=kit.server.port)
        try:
            while True:
                keeper.run_superlink(nginx, members)
        finally:
            keeper.note("serving-ended")


class _Keeper:
    """Runs the SuperLink and looks after the processes beside it."""

    def __init__(self, kit: ServerKit, home: Path, environment: Mapping[str, str], say: Say) -> None:
        self.kit, self.home, self.environment = kit, home, environment
        self._logs = (*nginx_logs(kit), kit.state / LOG)
        self._audit, self._say = AuditLog(kit.audit_file), say

    def note(self, event: str, **facts: str | float) -> None:
        """Record an event and say it."""
        self._audit.record(event, **facts)
        self._say(event, facts)

    def run_superlink(self, nginx: Child, members: Membership) -> None:
        """Run one SuperLink until it ends."""
        with superlink(self.kit, self.home, self.environment) as process:
            members.register_all(nginx)
            self.note("superlink-ready", sites=members.registered)
            while process.poll() is None:
                time.sleep(_LOOK_EVERY_S)
                if nginx.poll() is not None:
                    raise RunError(f"nginx ended; see {self.kit.state / 'nginx' / 'error.log'}")
                members.update(nginx)
                for path in self._logs:
                    cut_if_long(path)
        self.note("superlink-ended", code=process.returncode)
        time.sleep(_PAUSE_S)
