"""Flower's SuperLink of a consortium: on loopback, with TLS, and with node authentication of the kit's sites."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from server.deployment.flower_cli import flwr, flwr_each
from server.deployment.server_kit import ServerKit, SiteKey
from server.deployment.superlink_quota import COMMAND
from shared.errors import RunError
from shared.runtime.children import Child, child, listens, wait_until_ready

CONNECTION = "consortium"
LOG = "superlink.log"
_STARTUP_S = 60.0
_USED_BEFORE = "already in use"
_GONE = "unregistered"
_LONGEST_REASON = 300


@contextmanager
def superlink(kit: ServerKit, home: Path, environment: Mapping[str, str]) -> Iterator[Child]:
    """Run the SuperLink while the context lasts. Its state is in memory; a run's state is in the run's folder.

    Raises
    ------
    RunError
        Its port is in use, or it did not start; the end of its log is in the message.

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
    with child(command, log, environment, home) as process:
        wait_until_ready(process, "Flower's SuperLink", log, _STARTUP_S, lambda: listens(port))
        yield process


def write_connection(kit: ServerKit, home: Path) -> None:
    """Write the SuperLink's address into the configuration of Flower's command line."""
    address = f"127.0.0.1:{kit.server.superlink_port}"
    entry = {"address": address, "root-certificates": str(kit.authority)}
    home.mkdir(parents=True, exist_ok=True)
    text = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: entry}})
    (home / "config.toml").write_text(text, encoding="utf-8")


def register(site: SiteKey, environment: Mapping[str, str]) -> str:
    """Register a site's node; return Flower's number of it, or raise what `register_all` returns."""
    (number,) = register_all([site], environment)
    if isinstance(number, RunError):
        raise number
    return number


def register_all(sites: Sequence[SiteKey], environment: Mapping[str, str]) -> list[str | RunError]:
    """Register the nodes of sites; of each Flower's number of it, or why it refuses the key.

    Flower refuses for ever the keys of nodes that were unregistered.
    """
    with ExitStack() as files:
        commands = []
        for site in sites:
            file = files.enter_context(tempfile.NamedTemporaryFile(suffix=".pub"))
            file.write(site.line)  # the key as it was read: the kit may have changed since
            file.flush()
            commands.append(["flwr", "supernode", "register", file.name, CONNECTION, "--name", site.name])
        answers = flwr_each(commands, environment)
    return [_number(site, answer) for site, answer in zip(sites, answers, strict=True)]


def _number(site: SiteKey, answer: Mapping[str, Any]) -> str | RunError:
    number = answer.get("node-id") or answer.get("node_id")
    if number:
        return str(number)
    why = _reason(answer)
    if _USED_BEFORE in why:
        why = "its node key is another site's or was removed before; the hospital makes new ones with `fedbreast join`"
    return RunError(f"Flower did not register {site.name}: {why}")


def unregister(number: str, environment: Mapping[str, str]) -> None:
    """Unregister a node, whose calls are refused from then on. A node that was unregistered before is no error.

    `RunError` where Flower did not do it, or does not say whether it did.
    """
    answer = flwr(["flwr", "supernode", "unregister", number, CONNECTION], environment)
    if answer.get("success") is True:
        return
    # It may have been done although the answer is an error: ask for the node's state.
    listed = flwr(["flwr", "supernode", "list", CONNECTION], environment)
    if "nodes" not in listed:
        raise RunError(f"Flower did not unregister node {number}: {_reason(answer)}; {_reason(listed)}")
    states = {item["node-id"]: item["status"] for item in listed["nodes"]}
    if states.get(number, _GONE) != _GONE:
        raise RunError(f"Flower did not unregister node {number}: {_reason(answer)}")


def _reason(answer: Mapping[str, Any]) -> str:
    return " ".join(str(answer.get("error-message") or "no reason given").split())[:_LONGEST_REASON]
