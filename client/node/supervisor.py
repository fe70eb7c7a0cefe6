"""Keeps a hospital's node running: restarts it when it ends, after growing pauses, and says why it ended."""

from __future__ import annotations

import json
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.node.audit_tail import Events, Say
from client.node.fleet_client import REFUSED
from client.node.site_kit import NODE_FILE, SITE_DATA, SiteKit
from client.node.supernode import node_key
from shared.cohort.site_folder import open_site_folder
from shared.errors import ConfigError, SiteError
from shared.runtime.app_bundle import refuse_strangers, stage_app, staged_bundle
from shared.runtime.audit_log import AuditLog
from shared.runtime.children import ISOLATED, START, Child, cut_if_long, free_ports, start
from shared.runtime.flower_home import fresh_home, launch_environment
from shared.runtime.flower_internals import check_flower
from shared.runtime.processes import MARK, end_processes, guarded

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_STEADY_S = 60.0  # after a node that ran so long, the pauses start again with the first
_LOOK_EVERY_S = 0.2
_OWN_SOURCE = Path(__file__).resolve().parents[2]
_START = "--- the node starts ---"
_WITHDRAWN = "an approval was withdrawn: the node starts anew and remembers none"


def serve_site(kit: SiteKit, say: Say) -> None:
    """Run the node of the site's kit, which no other process serves, until interrupted; no process is left.

    `say` is called with every event that the audit log records meanwhile.

    Raises
    ------
    ConfigError, SiteError
        The kit or the site folder cannot be used.
    RunError
        Another process serves this kit, or Flower has another version than the tested one.
    KeyboardInterrupt
        On SIGINT, SIGTERM and SIGHUP; no process is left.

    """
    check_flower()
    check_kit(kit)
    with kit.in_use():
        home = fresh_home(kit.state)
        environment = launch_environment(home, kit.audit_file)
        environment |= {"FEDBREAST_ROOT": str(kit.folder), "FEDBREAST_CACHE": str(kit.cache)}
        if SITE_DATA in environment:  # the node works in another folder, where a relative path leads elsewhere
            environment[SITE_DATA] = str(kit.data)
        program = stage_program(home)
        audit = AuditLog(kit.audit_file)
        events = Events(kit.audit_file, say)
        approved, digest = len(kit.approved()), staged_bundle(program).sha256
        audit.record("serving-started", site=kit.name, server=kit.server, approved=approved, program=digest)
        try:
            with guarded(home, environment[MARK]), tempfile.TemporaryDirectory(prefix="fb-") as scratch:
                door = Path(scratch) / "warm"  # a Unix socket's path must be short
                _keep_running(kit, program, environment, door, audit, events)
        finally:
            audit.record("serving-ended", site=kit.name)
            events.report()


def stage_program(home: Path) -> Path:
    """Copy our own source into `home`, which this account alone can write: the node runs from there.

    Whoever edits the checkout afterwards changes nothing that runs, and the hash of the copy is that of what runs.

    Raises
    ------
    ConfigError
        Beside the source lies code that no hash covers.

    """
    refuse_strangers(_OWN_SOURCE)
    return stage_app(_OWN_SOURCE, home / "program")


def check_kit(kit: SiteKit) -> None:
    """Check the kit, the node key in it and the site folder, which must be this site's, before the first connection.

    Raises
    ------
    ConfigError
        As `Kit.check`; or the node key is damaged; or the site folder is another site's; or everybody can write to the
        kit.
    SiteError
        The site folder cannot be used.

    """
    kit.check(private=(kit.node_key,))
    above = kit.folder.resolve().parents
    for path in (kit.folder, kit.state, *above):
        mode = path.stat().st_mode if path.is_dir() else 0
        # In a folder like /tmp nobody renames another's kit.
        if mode & stat.S_IWOTH and not (mode & stat.S_ISVTX and path in above):
            raise ConfigError(f"everybody can write to {path}, and so change what the node runs: chmod o-w {path}")
    try:
        node_key(kit.node_key)
    except ValueError as error:
        raise ConfigError(f"{kit.node_key} is damaged: {kit.remedy}") from error
    if not kit.data.is_dir():
        raise SiteError(
            f"the site folder {kit.data} does not exist: write where it lies into {kit.folder / NODE_FILE} (data), or "
            f"into {SITE_DATA}"
        )
    folder = open_site_folder(kit.data)
    if folder.name != kit.name:
        raise ConfigError(f"{kit.data} is the folder of site '{folder.name}', this kit is '{kit.name}': mend site.data")


def _keep_running(
    kit: SiteKit, program: Path, environment: Mapping[str, str], door: Path, audit: AuditLog, events: Events
) -> None:
    failures = 0
    warm: Child | None = None
    try:
        while True:
            if warm is None or warm.poll() is not None:
                warm = _warm_process(kit, program, environment, door)
            started, approved, withdrawn = time.monotonic(), kit.approved_hashes(), False
            cut_if_long(kit.state / "node.log")
            with _node(kit, program, environment, door, warm) as process:
                while process.poll() is None and not withdrawn:
                    events.report()
                    time.sleep(_LOOK_EVERY_S)
                    # Flower asks for a run's app once, at its first message: only a new node forgets approvals.
                    before, approved = approved, kit.approved_hashes()
                    withdrawn = not before <= approved
            failures = 0 if withdrawn or time.monotonic() - started > _STEADY_S else failures + 1
            pause = PAUSES_S[min(failures, len(PAUSES_S)) - 1] if failures else PAUSES_S[0]
            why = _WITHDRAWN if withdrawn else _reason(kit.state / "node.log")
            audit.record("connection-ended", site=kit.name, why=why, again_in_s=pause)
            events.report()
            time.sleep(pause)
    finally:
        end_processes(environment[MARK])
        if warm is not None:
            warm.wait()


def _warm_process(kit: SiteKit, program: Path, environment: Mapping[str, str], door: Path) -> Child:
    """Start the warm process, isolated and from `program`: it outlives SuperNodes, as it takes long to load."""
    command = [*ISOLATED, str(program / "client/node/warm_process.py"), str(door)]
    return start(command, kit.state / "node.log", environment, program)


@contextmanager
def _node(kit: SiteKit, program: Path, environment: Mapping[str, str], door: Path, warm: Child) -> Iterator[Child]:
    """Run the SuperNode, isolated and from `program`, while the context lasts; all but `warm` ends with it."""
    (port,) = free_ports(1)
    settings = json.dumps({"kit": str(kit.folder), "port": port, "door": str(door)})
    log = kit.state / "node.log"
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"{_START}\n")
    node = start([*ISOLATED, str(program / START), "client.node.supernode", settings], log, environment, program)
    try:
        yield node
    finally:
        end_processes(environment[MARK], keep=warm.pid)
        node.wait()


def _reason(log: Path) -> str:
    """Why the last node ended, from what Flower wrote into its log."""
    text = log.read_text(encoding="utf-8", errors="replace").rpartition(_START)[2]
    for sign, reason in _REASONS:
        if sign in text:
            return reason
    return "the connection was lost"


_REASONS = (
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not the consortium's, has expired or has another name"),
    (
        f"{REFUSED} 412 flower",
        "another node is connected with this site's key, or was until a minute ago; or the server only just started",
    ),
    ("clocks differ", "this machine's clock is not the server's: Flower allows 5 s ahead and 305 s behind, so set it"),
    (
        f"{REFUSED} 401 door",
        "the server refuses this site's certificate: revoked, rotated, expired, or not the one of its node key",
    ),
    (
        f"{REFUSED} 401 flower",
        "the server does not know this node any more: it was removed, or the server started anew",
    ),
    (f"{REFUSED} 403", "the server refuses a call of this site"),
)
