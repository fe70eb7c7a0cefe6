"""The hospital's SuperNode: Flower's own, with four changes.

- It presents the site's TLS certificate: an intercepted header is useless without the certificate's key.
- It accepts an app only if its content hash is approved here; otherwise Flower answers the server with an error, and no
  code of the app is unpacked or imported (`client.node.app_approval`).
- It gives work only to our own starter, which knows a secret of this start (`client.node.app_starter`).
- It asks for work twice a second at first and then ever more rarely, instead of once in three seconds: a round waits
  for a quarter of its own time at most, and a node that waits for long costs its machine and the server little.
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
from client.node.lost_workers import answer_for_lost_workers
from client.node.site_kit import SiteKit
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_internals import flower_internal, replace_flower_internal

POLL_S = 0.5, 3.0
_SLOWER = 1.25
_ASK_FOR_S = 60.0  # after which Flower's own loop goes on
_ARRIVES_S = 20.0


def run_node(kit: SiteKit, runtime_port: int, door: str | None = None) -> None:
    """Run the SuperNode of the site's kit until it is terminated.

    Its worker processes call it on `runtime_port`, a free port on loopback; `door` is the Unix socket of the warm
    process, if there is one.

    Raises
    ------
    RunError
        Flower has another version than the one that was tested.

    """
    from client.node.app_starter import start

    run_supernode = flower_internal("flwr.supernode.start_client_internal:start_client_internal")
    connect = flower_internal("flwr.supernode.start_client_internal:_init_connection")
    start_http_api = flower_internal("flwr.supernode.cli.flower_supernode:_start_supernode_http_api")
    object_stores = flower_internal("flwr.supercore.object_store:ObjectStoreFactory")()
    states = flower_internal("flwr.supernode.nodestate:NodeStateFactory")(objectstore_factory=object_stores)
    flower_internal("flwr.supercore.app_utils:start_parent_process_monitor")(os.getppid())
    audit = AuditLog(kit.audit_file)
    replace_flower_internal("flwr.supernode.fleet_http_connection:FleetHttpClient", fleet_client(kit, audit))
    replace_flower_internal(
        "flwr.supernode.start_client_internal:_init_connection", partial(_gated, connect, kit, audit)
    )
    # Called only for apps to which the gate has given a licence: the approved ones.
    replace_flower_internal("flwr.supernode.start_client_internal:_verify_fab", lambda *_: True)
    answer_for_lost_workers(flower_internal("flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState"))
    secret = secrets.token_bytes(32)
    http_api = SimpleNamespace(
        superexec_auth_secret=secret, host="127.0.0.1", port=runtime_port, runtime_ssl_certfile=None,
        runtime_ssl_keyfile=None,
    )  # fmt: skip
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
            isolation="process",  # with our starter: Flower would start its own without a secret
            runtime_api_address=f"127.0.0.1:{runtime_port}",
            trusted_entities={"approved.toml": "by content hash"},
        )
    finally:
        starter.terminate()
        server.should_exit = True
        thread.join(timeout=5)


def node_config(kit: SiteKit) -> dict[str, str]:
    """The node's configuration for the app: site, data folder, kit. The server cannot change any of it."""
    return {"site": kit.name, "data-dir": str(kit.data), "kit": str(kit.folder)}


@contextmanager
def _gated(connect: Callable[..., Any], kit: SiteKit, audit: AuditLog, **arguments: Any) -> Iterator[tuple[Any, ...]]:
    """Flower's connection, with four of its functions replaced."""
    with connect(**arguments) as (node, receive, send, get_run, get_fab, pull_object, *rest):
        audit.record("connected", site=kit.name, node=str(node), server=kit.server)
        gate = AppGate(kit, audit, get_run, get_fab)
        pull = partial(_pull_patiently, pull_object)
        yield node, partial(_receive_patiently, receive), send, gate.get_run, gate.get_fab, pull, *rest


def _receive_patiently(receive: Callable[[], Any]) -> Any:
    """Ask for a message until there is one, after growing pauses; None after a minute, then Flower pauses itself."""
    deadline, pause = time.monotonic() + _ASK_FOR_S, POLL_S[0]
    while (message := receive()) is None and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(_SLOWER * pause, POLL_S[1])
    return message


def _pull_patiently(pull: Callable[[int, str], bytes], run: int, name: str) -> bytes:
    """Ask for a part of a message until it is there.

    A message is announced while the server is still sending it to its SuperLink. Flower's own pauses double from one
    second: the last part of 300 MB was there for two to three seconds before the node asked again.
    """
    unavailable = flower_internal("flwr.supercore.inflatable.inflatable_utils:ObjectUnavailableError")
    deadline = time.monotonic() + _ARRIVES_S
    while True:
        try:
            return pull(run, name)
        except unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S[0])


def node_key(path: Path) -> tuple[Any, Any]:
    """Flower's node key and its public key."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(path.read_bytes(), None)
    return key, key.public_key()


def main() -> None:
    """Run a node: `python -m client.node.supernode '{"kit": ..., "port": ...}'`, started by the supervisor."""
    settings = json.loads(sys.argv[1])
    run_node(SiteKit(Path(settings["kit"])), int(settings["port"]), settings.get("door"))


if __name__ == "__main__":
    main()
