"""Keeping a hospital's node running: it is started again when it ends, with growing pauses and its reason said once."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.node.audit_tail import Events, Say
from client.node.fleet_client import REFUSED, tls_context
from client.node.site_kit import NODE_FILE, SITE_DATA, Approvals, SiteKit
from client.node.supernode import node_key
from shared.cohort.site_folder import open_site_folder
from shared.errors import ConfigError, RunError, SiteError
from shared.runtime.audit import AUDIT
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_home import fresh_home, launch_environment
from shared.runtime.flower_internals import check_flower
from shared.runtime.processes import MARK, end_processes, guarded

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_STEADY_S = 60.0  # a node that held this long starts anew with the first pause
_GLANCE_S = 0.2
_LOG_LINES = 4000
_START = "--- the node starts ---"
_WITHDRAWN = "an approval was withdrawn: the node starts anew and remembers none"


def serve_site(kit: SiteKit, say: Say) -> None:
    """Run the site's node until interrupted.

    Parameters
    ----------
    kit
        The site's kit.
    say
        Told of everything that the audit log records meanwhile.

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
    with _alone(kit):
        home = fresh_home(kit.state)
        environment = launch_environment(home)
        environment |= {
            "FEDBREAST_ROOT": str(kit.folder),
            "FEDBREAST_CACHE": str(kit.cache),
            AUDIT: str(kit.state / "audit.jsonl"),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        }
        if SITE_DATA in environment:  # the node works in another folder, where a relative path leads elsewhere
            environment[SITE_DATA] = str(kit.data)
        audit = AuditLog(kit.state / "audit.jsonl")
        events = Events(kit.state / "audit.jsonl", say)
        audit.record("serving-started", site=kit.name, server=kit.server, approved=len(kit.approved()))
        try:
            with guarded(home, environment[MARK]), tempfile.TemporaryDirectory(prefix="fb-") as scratch:
                door = Path(scratch) / "warm"  # a Unix socket's path must be short
                _keep_up(kit, environment, door, audit, events)
        finally:
            audit.record("serving-ended", site=kit.name)
            events.tell()


def check_kit(kit: SiteKit) -> None:
    """Look at everything that can be wrong before the first connection.

    Raises
    ------
    ConfigError
        A file of the kit is missing or damaged, the certificate has expired or a private key can be read by others.
    SiteError
        The site folder cannot be used, or is another site's.

    """
    from cryptography import x509

    for path in (kit.authority, *kit.certificate, kit.node_key):
        if not path.is_file():
            raise ConfigError(f"{path} is missing: unpack the kit again, or ask the coordinator for a new one")
    for key in (kit.certificate[1], kit.node_key):
        if key.stat().st_mode & 0o077:
            raise ConfigError(f"{key} can be read by others: chmod 600 {key}")
    try:
        tls_context(kit)
        node_key(kit.node_key)
        until = x509.load_pem_x509_certificate(kit.certificate[0].read_bytes()).not_valid_after_utc
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"a key or certificate in {kit.folder} is damaged, or two are no pair: ask the coordinator to rotate them"
        ) from error
    if until.timestamp() < time.time():
        raise ConfigError(f"the site's certificate expired on {until:%Y-%m-%d}: ask the coordinator to rotate it")
    if not kit.data.is_dir():
        raise SiteError(
            f"the site folder {kit.data} does not exist: write where it lies into {kit.folder / NODE_FILE} (data), or "
            f"into {SITE_DATA}"
        )
    found = open_site_folder(kit.data)
    if found.name != kit.name:
        raise ConfigError(f"{kit.data} is the folder of site '{found.name}', this kit is '{kit.name}': mend site.data")


def _keep_up(kit: SiteKit, environment: Mapping[str, str], door: Path, audit: AuditLog, events: Events) -> None:
    ended = 0
    while True:
        started = time.monotonic()
        _shorten(kit.state / "node.log")
        approvals, withdrawn = Approvals(kit), False
        with _node(kit, environment, door) as process:
            # Flower asks for a run's app at its first message and not again: only a new node forgets an approval.
            while process.poll() is None and not (withdrawn := approvals.withdrawn()):
                events.tell()
                time.sleep(_GLANCE_S)
        ended = 0 if withdrawn or time.monotonic() - started > _STEADY_S else ended + 1
        pause = PAUSES_S[min(ended, len(PAUSES_S)) - 1] if ended else PAUSES_S[0]
        why = _WITHDRAWN if withdrawn else _reason(kit.state / "node.log")
        audit.record("connection-ended", site=kit.name, why=why, again_in_s=pause)
        events.tell()
        time.sleep(pause)


@contextmanager
def _node(kit: SiteKit, environment: Mapping[str, str], door: Path) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = json.dumps({"kit": str(kit.folder), "port": port, "door": str(door)})
    here = Path(__file__).resolve().parent
    with (kit.state / "node.log").open("ab") as stream:
        stream.write(f"{_START}\n".encode())
        stream.flush()

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, *arguments], cwd=here.parents[1], env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip

        warm = start("-P", str(here / "warm_process.py"), str(door))
        process = start("-m", "client.node.supernode", given)
        try:
            yield process
        finally:
            end_processes(environment[MARK])
            process.wait()
            warm.wait()


def _shorten(log: Path) -> None:
    """Keep the node's log at a few thousand lines."""
    if log.is_file() and log.stat().st_size > 1 << 20:
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[-_LOG_LINES:]))


def _reason(log: Path) -> str:
    """Why a node ended, from what Flower wrote last."""
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


@contextmanager
def _alone(kit: SiteKit) -> Iterator[None]:
    from filelock import FileLock, Timeout

    kit.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kit.state / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{kit.folder} is served by another process already: end it first") from error
    try:
        yield
    finally:
        lock.release()
