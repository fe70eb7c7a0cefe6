"""The hospital's SuperNode: Flower's own, started with what Flower leaves open closed.

- It shows the site's TLS certificate: a captured header is of no use to whoever lacks the certificate's key.
- It takes an app only if its content hash is approved here; otherwise Flower answers the server with an error, and no
  code of the app is ever unpacked or imported (`client.node.app_approval`).
- It hands the app's work to our own starter only, which knows a secret of this start (`client.node.app_starter`).
- It asks for work several times a second instead of once in three, so that a round does not wait for it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from client.node.app_approval import AppGate
from client.node.fleet_client import fleet_client
from client.node.lost_workers import answer_for_the_lost
from client.node.site_kit import SiteKit
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_internals import flower_internal, replace_flower_internal

POLL_S = 0.5
_ASK_FOR_S = 60.0  # then Flower's own loop has its turn
_ARRIVES_S = 20.0


def run_node(kit: SiteKit, runtime_port: int, door: str | None = None) -> None:
    """Run the SuperNode until it is told to end.

    Parameters
    ----------
    kit
        The site's kit.
    runtime_port
        Free port on loopback, where the node's own worker processes reach it.
    door
        Unix socket of the warm process; None where there is none.

    Raises
    ------
    RunError
        Flower has another version than the one this was written for.

    """
    from client.node.app_starter import start

    run_supernode = flower_internal("flwr.supernode.start_client_internal:start_client_internal")
    connect = flower_internal("flwr.supernode.start_client_internal:_init_connection")
    start_http_api = flower_internal("flwr.supernode.cli.flower_supernode:_start_supernode_http_api")
    object_stores = flower_internal("flwr.supercore.object_store:ObjectStoreFactory")()
    states = flower_internal("flwr.supernode.nodestate:NodeStateFactory")(objectstore_factory=object_stores)
    flower_internal("flwr.supercore.app_utils:start_parent_process_monitor")(os.getppid())
    audit = AuditLog(kit.state / "audit.jsonl")
    replace_flower_internal("flwr.supernode.fleet_http_connection:FleetHttpClient", fleet_client(kit, audit))
    replace_flower_internal(
        "flwr.supernode.start_client_internal:_init_connection", partial(_gated, connect, kit, audit)
    )
    # Asked only about apps that the gate gave a licence, which are the approved ones.
    replace_flower_internal("flwr.supernode.start_client_internal:_verify_fab", lambda *_: True)
    answer_for_the_lost(flower_internal("flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState"))
    secret = secrets.token_bytes(32)
    http_api = SimpleNamespace(
        superexec_auth_secret=secret,
        host="127.0.0.1",
        port=runtime_port,
        runtime_ssl_certfile=None,
        runtime_ssl_keyfile=None,
    )
    server, thread = start_http_api(http_api, states)
    starter = start(runtime_port, door, os.getpid(), secret)
    try:
        run_supernode(
            state_factory=states,
            server_address=kit.server,
            root_certificates=str(kit.authority),
            insecure=False,
            authentication_keys=node_key(kit.node_key),
            node_config=node_config(kit),
            isolation="process",  # ours, as Flower would start its own without a secret
            runtime_api_address=f"127.0.0.1:{runtime_port}",
            trusted_entities={"approved.toml": "by content hash"},
        )
    finally:
        starter.terminate()
        server.should_exit = True
        thread.join(timeout=5)


def node_config(kit: SiteKit) -> dict[str, str | int | float | bool]:
    """What the node tells the app: the site, its folder and its policy. The server has no say in any of it."""
    policy = kit.node.policy
    return {
        "site": kit.name,
        "data-dir": str(kit.data),
        "tasks": ",".join(policy.tasks),
        "max-rounds": policy.max_rounds,
        "differential-privacy": policy.differential_privacy,
    }


@contextmanager
def _gated(connect: Callable[..., Any], kit: SiteKit, audit: AuditLog, **arguments: Any) -> Iterator[tuple[Any, ...]]:
    """Flower's connection, with our own hands on four of its functions."""
    with connect(**arguments) as (node, receive, send, get_run, get_fab, pull_object, *rest):
        audit.record("connected", site=kit.name, node=str(node), server=kit.server)
        gate = AppGate(kit, audit, get_run, get_fab)
        pull = partial(_arriving, pull_object)
        yield node, partial(_patient, receive), send, gate.get_run, gate.get_fab, pull, *rest


def _patient(receive: Callable[[], Any]) -> Any:
    """Ask for a message until there is one; None after a while, when Flower sleeps for three seconds."""
    deadline = time.monotonic() + _ASK_FOR_S
    while (found := receive()) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found


def _arriving(pull: Callable[[int, str], bytes], run: int, name: str) -> bytes:
    """Ask for a part of a question until it is there, for a while.

    A question is announced while the server still hands it to its SuperLink, and Flower's own pauses double from one
    second: of 300 MB the last part was there for two to three seconds before the node asked again.
    """
    unavailable = flower_internal("flwr.supercore.inflatable.inflatable_utils:ObjectUnavailableError")
    deadline = time.monotonic() + _ARRIVES_S
    while True:
        try:
            return pull(run, name)
        except unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def node_key(path: Path) -> tuple[Any, Any]:
    """Flower's node key, and its public half."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(path.read_bytes(), None)
    return key, key.public_key()


def main() -> None:
    """Run a node: `python -m client.node.supernode '{"kit": ..., "port": ...}'`, started by the supervisor."""
    given = json.loads(sys.argv[1])
    run_node(SiteKit(Path(given["kit"])), int(given["port"]), given.get("door"))


if __name__ == "__main__":
    main()
