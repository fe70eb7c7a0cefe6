"""Flower's SuperLink of a consortium: loopback only, TLS, node authentication, and the kit's sites registered."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from server.deployment.flower_cli import flwr, tail
from server.deployment.server_kit import ServerKit, SiteKey
from shared.errors import RunError

CONNECTION = "consortium"
COMMAND = (sys.executable, "-m", "server.deployment.superlink_quota")
"""Stands before Flower's own command."""
LOG = "superlink.log"
_STARTUP_S = 60.0
_USED_BEFORE = "already in use"
_GONE = "unregistered"
_LONGEST_REASON = 300


@contextmanager
def superlink(kit: ServerKit, home: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the SuperLink for as long as the context lasts; its state is in memory, a run's is in its own folder.

    Raises
    ------
    RunError
        Its port is taken, or it did not start; what it logged last is in the message.

    """
    certificate, key = kit.certificate
    port = kit.server.superlink_port
    if listens(port):
        raise RunError(f"cannot listen on 127.0.0.1:{port} (Address already in use): end what does")
    command = [*COMMAND, "flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--enable-supernode-auth"]
    command += ["--ssl-ca-certfile", str(kit.authority), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    command += ["--isolation", "subprocess", "--disable-runtime-dependency-installation"]
    write_connection(kit, home)
    log = kit.state / LOG
    with log.open("ab") as stream:  # appending: it is cut when it grows long, see log_size.py
        process = subprocess.Popen(  # noqa: S603 - Flower's own command, bounded
            command, cwd=home, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _STARTUP_S
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError("Flower's SuperLink did not start:\n" + tail(log))
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_connection(kit: ServerKit, home: Path) -> None:
    """Tell Flower's command line of the SuperLink."""
    address = f"127.0.0.1:{kit.server.superlink_port}"
    entry = {"address": address, "root-certificates": str(kit.authority)}
    home.mkdir(parents=True, exist_ok=True)
    text = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: entry}})
    (home / "config.toml").write_text(text, encoding="utf-8")


def register(site: SiteKey, environment: Mapping[str, str]) -> str:
    """Make a site's node known; returns Flower's number of it.

    Raises
    ------
    RunError
        Flower refuses the key. It keeps those of nodes that were unregistered, and takes none of them again.

    """
    with tempfile.NamedTemporaryFile(suffix=".pub") as file:  # what was read, whatever the kit holds by now
        file.write(site.line)
        file.flush()
        answer = flwr(["flwr", "supernode", "register", file.name, CONNECTION, "--name", site.name], environment)
    number = answer.get("node-id") or answer.get("node_id")
    if number:
        return str(number)
    why = _reason(answer)
    if _USED_BEFORE in why:
        why = "its node key is another site's or was removed before; give it new keys with `fedbreast rotate`"
    raise RunError(f"Flower did not register {site.name}: {why}")


def unregister(number: str, environment: Mapping[str, str]) -> None:
    """Forget a node: its calls are refused from now on. That it was forgotten before is no error.

    Raises
    ------
    RunError
        Flower did not do it, or does not say.

    """
    answer = flwr(["flwr", "supernode", "unregister", number, CONNECTION], environment)
    if answer.get("success") is True:
        return
    # It may have been done although the answer is an error: what counts is how the node stands.
    listed = flwr(["flwr", "supernode", "list", CONNECTION], environment)
    if "nodes" not in listed:
        raise RunError(f"Flower did not unregister node {number}: {_reason(answer)}; {_reason(listed)}")
    standing = {item["node-id"]: item["status"] for item in listed["nodes"]}
    if standing.get(number, _GONE) != _GONE:
        raise RunError(f"Flower did not unregister node {number}: {_reason(answer)}")


def _reason(answer: Mapping[str, Any]) -> str:
    return " ".join(str(answer.get("error-message") or "no reason given").split())[:_LONGEST_REASON]


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
