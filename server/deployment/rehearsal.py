"""A rehearsal of a consortium on this machine: real processes, real certificates, loopback only."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from server.run_folder.journal import RunFolder
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.runtime.children import Child, child, free_ports, wait_until_ready
from shared.runtime.flower_home import BINARIES
from shared.runtime.project import project_root

CONNECTED_WITHIN_S = 180.0
_ENDED_WITHIN_S = 60.0

Step = Callable[[str], None]
"""Called with what happens next, in words."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A consortium on loopback: its folder, its sites' names, and the folder of the sites' data folders.

    The coordinator's files lie in `kits`, each hospital's in a folder of its own below `hospitals`.
    """

    folder: Path
    sites: tuple[str, ...]
    data: Path

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder, with the authority."""
        return self.folder / "kits"

    @property
    def server(self) -> Path:
        """The server's kit."""
        return self.coordinator / "server"

    def site(self, name: str) -> Path:
        """A site's kit."""
        return self.folder / "hospitals" / name


def prepare(folder: Path, config: RunConfig, *, data: Path | None = None) -> Rehearsal:
    """Provision a consortium of the configuration's centres on free ports; sites join and approve all of it.

    All is made in `folder`; the sites' data folders lie in `data`, or else where the configuration says.
    """
    folder.mkdir(parents=True)
    rehearsal = Rehearsal(folder, config.centres, data or project_root() / config.data.root)
    front, status, inner = free_ports(3)
    server = {"address": "127.0.0.1", "port": front, "status_port": status, "superlink_port": inner}
    consortium = {"name": "rehearsal", "server": server, "sites": [{"name": name} for name in rehearsal.sites]}
    (folder / "consortium.toml").write_text(tomli_w.dumps(consortium), encoding="utf-8")
    call("provision", str(folder / "consortium.toml"), "--out", str(rehearsal.coordinator))
    approved = folder / "run.toml"
    approved.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    for name in rehearsal.sites:
        join(rehearsal, name)
        path = rehearsal.site(name) / "node.toml"
        node = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        node["site"]["data"] = str((rehearsal.data / name).resolve())
        path.write_text(tomli_w.dumps(node), encoding="utf-8")
        call("approve", str(rehearsal.site(name)))
        call("approve", str(rehearsal.site(name)), "--configuration", str(approved))
    return rehearsal


def join(rehearsal: Rehearsal, name: str) -> None:
    """Have a site make its keys and be admitted, as both sides' commands do it; here nobody needs a telephone."""
    kit, coordinator = str(rehearsal.site(name)), rehearsal.coordinator
    call("join", kit, "--name", name)
    request = str(rehearsal.site(name) / f"{name}.request")
    call("admit", str(coordinator), name, request, "--fingerprint", call("fingerprint", request))
    consortium = call("fingerprint", str(coordinator / "authority" / "ca.crt"))
    call("join", kit, str(coordinator / f"{name}.kit"), "--fingerprint", consortium)


@contextmanager
def run_consortium(rehearsal: Rehearsal, step: Step) -> Iterator[dict[str, Child]]:
    """Run the server and every site, each as a process of its own, while the context lasts.

    Yields the processes by name, the server's as "server", once all sites are connected.

    Raises
    ------
    RunError
        One of them did not start; the end of its log is in the message.

    """
    with ExitStack() as stack:

        def started(name: str, word: str) -> None:
            log = rehearsal.folder / f"{name}.log"
            wait_until_ready(
                processes[name], name, log, CONNECTED_WITHIN_S, lambda: word in log.read_text("utf-8", "replace")
            )

        step("the server starts")
        processes = {"server": stack.enter_context(run_member(rehearsal, "server"))}
        started("server", "superlink-ready")
        step(f"{len(rehearsal.sites)} hospitals connect")
        processes |= {name: stack.enter_context(run_member(rehearsal, name)) for name in rehearsal.sites}
        for name in rehearsal.sites:
            started(name, "connected")
        yield processes


@contextmanager
def run_member(rehearsal: Rehearsal, name: str) -> Iterator[Child]:
    """Run the server, or one site, while the context lasts."""
    command = ["serve", str(rehearsal.server), "--host", "127.0.0.1"]
    if name != "server":
        command = ["serve-site", str(rehearsal.site(name))]
    log = rehearsal.folder / f"{name}.log"
    with child(fedbreast(*command), log, os.environ, grace_s=_ENDED_WITHIN_S) as process:
        yield process


def fedbreast(*arguments: str) -> list[str]:
    """Our own command line, of this environment."""
    return [str(BINARIES / "fedbreast"), *arguments]


def call(*arguments: str) -> str:
    """Call our own command line; return what it printed. If it failed, a `RunError` quotes that."""
    done = subprocess.run(fedbreast(*arguments), capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise RunError(f"`fedbreast {arguments[0]}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def model_hashes(first: Path, second: Path, tasks: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The model hashes of two run folders side by side: for each task one pair per round."""
    pairs = {}
    for task in tasks:
        hashes = [[item.model_hash for item in RunFolder(path).records(task)] for path in (first, second)]
        longest = max(map(len, hashes))
        pairs[task] = list(zip(*([*item, *[""] * (longest - len(item))] for item in hashes), strict=True))
    return pairs
