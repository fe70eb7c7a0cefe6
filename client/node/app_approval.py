"""The gate for apps: decides what a hospital's node runs, before anything of a bundle is unpacked or imported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from client.node.site_kit import SiteKit
from shared.errors import ConfigError
from shared.runtime.app_bundle import APP, Bundle, read_bundle
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_internals import flower_internal

_LICENCE = "valid_license"  # Flower asks for it before it asks whether an app is verified
_SHOWN = 5


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
        sent = hashlib.sha256(fab.content).hexdigest()  # Flower's name for it
        try:
            bundle = read_bundle(fab.content, "the server's app")
            app, why = bundle.sha256, self._objection(fab, bundle, name, run, sent)
        except ConfigError as error:
            app, why = sent, str(error)
        event, reason = ("app-refused", {"why": why}) if why else ("app-accepted", {})
        self._audit.record(event, site=self._kit.name, run=str(run), app=app, **reason)
        licence = {} if why else {_LICENCE: "approved here"}
        return flower_internal("flwr.supercore.fab:Fab")(sent, fab.content, licence)

    def _objection(self, fab: Any, bundle: Bundle, name: str, number: int, sent: str) -> str:
        approved = self._kit.approved()
        if all(item.sha256 != bundle.sha256 for item in approved):
            return "it is not approved" + _compared(bundle, self._kit.last_approved())
        if not name == fab.hash_str == sent:
            return "the server names it by another hash"
        if self._run is None or (self._run.run_id, self._run.fab_hash) != (number, sent):
            return "the server describes another run"
        return _difference(self._run, bundle.version)


def _compared(bundle: Bundle, approved: Bundle | None) -> str:
    """Which files differ from the app that was approved last; empty if that is not known."""
    if approved is None:
        return ""
    differ = [f"{path} is {how}" for path, how in bundle.differences(approved).items()]
    more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
    return f"; unlike the app approved last: {', '.join(differ[:_SHOWN])}{more}"


def _difference(run: Any, version: str) -> str:
    """How a run's description differs from the approved app; empty if it does not."""
    agent = flower_internal("flwr.supercore.constant:TaskType").AGENT_APP
    if run.fab_id != APP:
        return "the server names another app"
    if run.fab_version != version:
        return "the server names another version"
    return "the server wants an agent" if run.primary_task_type == agent else ""
