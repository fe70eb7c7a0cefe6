"""A consortium rehearsed on this machine: real processes, real certificates, one data folder a site, loopback only."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from server.run_folder.journal import RunFolder
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.runtime.flower_home import BINARIES
from shared.runtime.project import project_root

CONNECTED_WITHIN_S = 180.0
_ENDED_WITHIN_S = 60.0

Step = Callable[[str], None]
"""Called with what happens next, in words."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A provisioned consortium on loopback: its folder, the sites' names, and the folder of each site's data."""

    folder: Path
    sites: tuple[str, ...]
    data: Path

    @property
    def server(self) -> Path:
        """The server's kit."""
        return self.folder / "kits" / "server"

    def site(self, name: str) -> Path:
        """A site's kit."""
        return self.folder / "kits" / name


def prepare(folder: Path, config: RunConfig, *, data: Path | None = None) -> Rehearsed:
    """Provision a consortium of the configuration's centres on free ports of loopback, and have every site approve.

    Parameters
    ----------
    folder
        Where its kits go; made.
    config
        Its centres become sites: those that train, and the external one.
    data
        Folder of the sites' folders; otherwise the configuration's.

    """
    folder.mkdir(parents=True)
    found = Rehearsed(folder, config.centres, data or project_root() / config.data.root)
    front, status, inner = free_ports(3)
    server = {"address": "127.0.0.1", "port": front, "status_port": status, "superlink_port": inner}
    wanted = {"name": "rehearsal", "server": server, "sites": [{"name": name} for name in found.sites]}
    (folder / "consortium.toml").write_text(tomli_w.dumps(wanted), encoding="utf-8")
    call("provision", str(folder / "consortium.toml"), "--out", str(folder / "kits"))
    for name in found.sites:
        path = found.site(name) / "node.toml"
        node = tomllib.loads(path.read_text(encoding="utf-8"))
        node["site"]["data"] = str((found.data / name).resolve())
        path.write_text(tomli_w.dumps(node), encoding="utf-8")
        call("approve", str(found.site(name)))
    return found


@contextmanager
def served(rehearsed: Rehearsed, step: Step) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the server and every site, each a process of its own, for as long as the context lasts.

    Yields
    ------
    The processes by name; the server's is "server". All sites are connected.

    Raises
    ------
    RunError
        One of them did not come up; its last words are in the message.

    """
    with ExitStack() as stack:
        processes = {"server": stack.enter_context(process(rehearsed, "server"))}
        step("the server starts")
        _await(rehearsed, "server", processes, "superlink-ready")
        for name in rehearsed.sites:
            processes[name] = stack.enter_context(process(rehearsed, name))
        step(f"{len(rehearsed.sites)} hospitals connect")
        for name in rehearsed.sites:
            _await(rehearsed, name, processes, "connected")
        yield processes


@contextmanager
def process(rehearsed: Rehearsed, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server, or one site, until the context ends."""
    command = ["serve", str(rehearsed.server), "--host", "127.0.0.1"]
    if name != "server":
        command = ["serve-site", str(rehearsed.site(name))]
    with (rehearsed.folder / f"{name}.log").open("ab") as stream:
        found = subprocess.Popen(  # noqa: S603 - ourselves
            fedbreast(*command), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield found
    finally:
        found.send_signal(signal.SIGTERM)
        try:
            found.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            found.kill()
            found.wait()


def fedbreast(*arguments: str) -> list[str]:
    """Our own command line, of this environment."""
    return [str(BINARIES / "fedbreast"), *arguments]


def call(*arguments: str) -> str:
    """Call our own command line; returns what it printed.

    Raises
    ------
    RunError
        It failed; its own words are in the message.

    """
    done = subprocess.run(fedbreast(*arguments), capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise RunError(f"`fedbreast {arguments[0]}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def same_models(first: Path, second: Path, tasks: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Hashes of two runs' models, round by round, for each task."""
    pairs = {}
    for task in tasks:
        hashes = [[item.model_hash for item in RunFolder(path).records(task)] for path in (first, second)]
        longest = max(map(len, hashes))
        pairs[task] = list(zip(*([*item, *[""] * (longest - len(item))] for item in hashes), strict=True))
    return pairs


def _await(rehearsed: Rehearsed, name: str, processes: dict[str, subprocess.Popen[bytes]], word: str) -> None:
    """Wait until a process has said a word."""
    log = rehearsed.folder / f"{name}.log"
    deadline = time.monotonic() + CONNECTED_WITHIN_S
    while word not in (text := log.read_text(encoding="utf-8", errors="replace")):
        if processes[name].poll() is not None or time.monotonic() > deadline:
            raise RunError(f"{name} did not come up:\n" + "\n".join(text.splitlines()[-8:]))
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
