"""Flower's SuperLink with a quota: a site may send no more than answers to its messages (scenario 64).

nginx limits the size of a call and the calls per second, but not their sum, and Flower keeps everything that a node
with a known key sends until the run ends. Here each message to a site allows it so many bytes and objects; what exceeds
them is not kept.

Started in place of Flower's own command: `COMMAND`, then `flower-superlink ...`.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from server.deployment import superlink_callers
from shared.runtime.children import own_module
from shared.runtime.flower_internals import flower_internal, replace_flower_internal

AGAIN = 3
"""How often an answer may be sent: an interrupted upload starts again from its beginning."""
SPARE_BYTES, SPARE_OBJECTS = 16 << 20, 256
ANNOUNCEMENTS = 16
LONGEST_ANNOUNCEMENT = 64 << 10
"""Bytes of an answer without its objects; Flower keeps the text of an error in it, which may be of any length."""
SWEEP_S = 0.2
"""Between garbage collections: a call's body is freed by one, and Python waits for some 150 calls of 16 MB."""
COMMAND = own_module("server.deployment.superlink_quota")
"""Comes before Flower's own command."""
STARTER = own_module("server.deployment.app_starter")
HANDLERS = ("pull_messages", "pull_object", "push_messages", "push_object")


@dataclass(slots=True)
class _Account:
    """One site: objects of its last message not fetched yet, the largest message so far, and what it has sent since."""

    waiting: set[str] = field(default_factory=set)
    fetched_bytes: int = 0
    most_bytes: int = 0
    most_objects: int = 0
    sent_bytes: int = 0
    sent_objects: int = 0
    announcements: int = 0


class Quotas:
    """The accounts of all nodes. An answer may be a few times as large as the largest message to the node."""

    def __init__(self) -> None:
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)
        self._lock = threading.Lock()

    def start_message(self, node: int, objects: list[str]) -> None:
        """Note that a message of these objects was given to a node: counting starts again."""
        with self._lock:
            before = self._accounts[node]
            self._accounts[node] = _Account(
                waiting=set(objects),
                most_bytes=before.most_bytes,
                most_objects=max(len(objects), before.most_objects),
            )

    def count_fetched(self, node: int, name: str, size: int) -> None:
        """Note that a node fetched an object of so many bytes; a second time, or of another message, does not count.

        A node does not fetch what it already has, so the largest of all messages sets its quota.
        """
        with self._lock:
            account = self._accounts[node]
            if name not in account.waiting:  # it may also fetch its own objects
                return
            account.waiting.remove(name)
            account.fetched_bytes += size
            account.most_bytes = max(account.most_bytes, account.fetched_bytes)

    def may_announce(self, node: int, objects: int) -> bool:
        """Whether a node may announce an answer of so many objects."""
        with self._lock:
            account = self._accounts[node]
            account.announcements += 1
            account.sent_objects += objects
            most = AGAIN * account.most_objects + SPARE_OBJECTS
            return account.announcements <= ANNOUNCEMENTS and account.sent_objects <= most

    def may_send(self, node: int, size: int) -> bool:
        """Whether a node may send an object of so many bytes."""
        with self._lock:
            account = self._accounts[node]
            if account.sent_bytes + size > AGAIN * account.most_bytes + SPARE_BYTES:
                return False
            account.sent_bytes += size
            return True


class QuotaHandlers:
    """The four handlers of Flower's module for a node's messages, with quotas."""

    def __init__(self, handlers: Any) -> None:
        self._quotas = Quotas()
        self._own = {name: getattr(handlers, name) for name in HANDLERS}

    def pull_messages(self, request: Any, **more: Any) -> Any:
        """As Flower's."""
        response = self._own["pull_messages"](request=request, **more)
        if response.messages_list:
            self._quotas.start_message(request.node.node_id, _objects(response.message_object_trees))
        return response

    def pull_object(self, request: Any, **more: Any) -> Any:
        """As Flower's."""
        response = self._own["pull_object"](request=request, **more)
        if response.object_content:
            self._quotas.count_fetched(request.node.node_id, request.object_id, len(response.object_content))
        return response

    def push_messages(self, request: Any, **more: Any) -> Any:
        """As Flower's; what is no answer or exceeds the quota is refused like an answer to a run that is over."""
        node, answers = request.node.node_id, [item.metadata for item in request.messages_list]
        # Otherwise Flower would deliver a site's message, as if it were the server's, to any node that it names.
        if any(item.src_node_id != node or not item.reply_to_message_id for item in answers):
            raise _refusal("no answer, or another's")
        if sum(item.ByteSize() for item in request.messages_list) > LONGEST_ANNOUNCEMENT:
            raise _refusal("an announcement longer than any error's text")
        if not self._quotas.may_announce(node, len(_objects(request.message_object_trees))):
            raise _refusal("more answers than questions")
        return self._own["push_messages"](request=request, **more)

    def push_object(self, request: Any, **more: Any) -> Any:
        """As Flower's; what exceeds the quota is not kept."""
        if not self._quotas.may_send(request.node.node_id, len(request.object_content)):
            return flower_internal("flwr.proto.message_pb2:PushObjectResponse")(stored=False)
        return self._own["push_object"](request=request, **more)


def bind(handlers: Any) -> None:
    """Replace Flower's handlers by those with quotas."""
    own = QuotaHandlers(handlers)
    for name in HANDLERS:
        setattr(handlers, name, getattr(own, name))


def _objects(trees: Any) -> list[str]:
    iterate = flower_internal("flwr.supercore.inflatable.inflatable_object:iterate_object_tree")
    return [item.object_id for tree in trees for item in iterate(tree)]


def _refusal(why: str) -> Exception:
    code = flower_internal("flwr.supercore.error:ApiErrorCode").FLEET_RUN_STATUS_NOT_ALLOWED
    error: Exception = flower_internal("flwr.supercore.error:FlowerError")(code, why)
    return error


def _sweep() -> None:
    while True:
        time.sleep(SWEEP_S)
        gc.collect()


def main() -> None:
    """Run Flower's command with quotas, closed to this machine's other users, its apps' tokens on no command line."""
    superlink_callers.bind()
    bind(flower_internal("flwr.superlink.servicer.fleet.fleet_handlers"))
    flowers = flower_internal("flwr.superlink.cli.flower_superlink:_get_superexec_command")
    replace_flower_internal(
        "flwr.superlink.cli.flower_superlink:_get_superexec_command",
        lambda *given, **named: [*STARTER, *flowers(*given, **named)[1:]],
    )
    command = flower_internal("flwr.superlink.cli:flower_superlink")
    gc.freeze()  # loaded modules stay: later collections can skip them
    threading.Thread(target=_sweep, daemon=True).start()
    sys.argv = sys.argv[1:]
    command()


if __name__ == "__main__":
    main()
