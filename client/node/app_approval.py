"""The gate for apps: decides what a hospital's node runs, before anything of a bundle is unpacked or imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from client.node.site_kit import SiteKit
from shared.errors import ConfigError
from shared.runtime.app_bundle import APP, digest_of, read_bundle
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_internals import flower_internal

_LICENCE = "valid_license"  # Flower asks for it before it asks whether an app is verified


class AppGate:
    """Wraps the two functions with which Flower asks for a run's description and fetches its app.

    Flower calls both once, at a run's first message. The description of the run is compared with the approved bundle,
    because Flower makes the path of the folder that it imports from, unchecked, of the app's name and version.

    The kit's list of approved apps is read at each call. `audit` records each app that arrives, and why one is refused.
    """

    def __init__(
        self, kit: SiteKit, audit: AuditLog, get_run: Callable[[int], Any], get_fab: Callable[[str, int], Any]
    ) -> None:
        self._kit, self._audit = kit, audit
        self._ask_run, self._ask_fab = get_run, get_fab
        self._run: Any = None

    def get_run(self, run: int) -> Any:
        """The server's description of a run; it is checked when the app has arrived."""
        self._run = self._ask_run(run)
        return self._run

    def get_fab(self, name: str, run: int) -> Any:
        """The app's bundle, with a licence only if it is approved. Without one Flower answers with an error."""
        fab = self._ask_fab(name, run)
        digest = digest_of(fab.content)
        why = self._objection(fab, name, run, digest)
        event, reason = ("app-refused", {"why": why}) if why else ("app-accepted", {})
        self._audit.record(event, site=self._kit.name, run=str(run), app=digest, **reason)
        licence = {} if why else {_LICENCE: "approved here"}
        return flower_internal("flwr.supercore.fab:Fab")(digest, fab.content, licence)

    def _objection(self, fab: Any, name: str, number: int, digest: str) -> str:
        try:
            if all(item.sha256 != digest for item in self._kit.approved()):
                return "it is not approved"
            if not name == fab.hash_str == digest:
                return "the server names it by another hash"
            if self._run is None or (self._run.run_id, self._run.fab_hash) != (number, digest):
                return "the server describes another run"
            return _difference(self._run, read_bundle(fab.content, "the server's app").version)
        except ConfigError:
            return "the list of approved apps or the bundle is damaged"


def _difference(run: Any, version: str) -> str:
    """How a run's description differs from the approved app; empty if it does not."""
    agent = flower_internal("flwr.supercore.constant:TaskType").AGENT_APP
    if run.fab_id != APP:
        return "the server names another app"
    if run.fab_version != version:
        return "the server names another version"
    return "the server wants an agent" if run.primary_task_type == agent else ""
