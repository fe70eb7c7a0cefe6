"""Flower's SuperLink, but that a site may send no more than answers to what it was asked (scenario 64).

nginx caps a call, and how many there are a second, but not their sum; and Flower keeps what a node with a known key
sends until the run ends. Here each question gives a site a right to so many bytes and objects; the rest is not kept.

Started in place of Flower's own command: `python -m server.deployment.superlink_quota flower-superlink ...`.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from shared.runtime.flower_internals import flower_internal

AGAIN = 3
"""An upload that broke off is sent anew, from its start."""
SPARE_BYTES, SPARE_OBJECTS = 16 << 20, 256
ANNOUNCEMENTS = 16
SWEEP_S = 0.2
"""Between searches for cycles: a call's body lies in one, and Python looks by itself after some 150 calls of 16 MB."""
HANDLERS = ("pull_messages", "pull_object", "push_messages", "push_object")


@dataclass(slots=True)
class _Account:
    """What one site was last asked and has not fetched, the most it was ever asked, and what it has sent since."""

    asked: set[str] = field(default_factory=set)
    asked_bytes: int = 0
    most_bytes: int = 0
    most_objects: int = 0
    sent_bytes: int = 0
    sent_objects: int = 0
    announcements: int = 0


class Bounds:
    """The accounts of all nodes. An answer may be as long as the longest question, a few times over."""

    def __init__(self) -> None:
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)
        self._lock = threading.Lock()

    def asked(self, node: int, objects: list[str]) -> None:
        """Note that a question of these objects was handed out: counting begins anew."""
        with self._lock:
            before = self._accounts[node]
            self._accounts[node] = _Account(
                asked=set(objects),
                most_bytes=before.most_bytes,
                most_objects=max(len(objects), before.most_objects),
            )

    def fetched(self, node: int, name: str, size: int) -> None:
        """Note that a node was given an object of so many bytes; again, or of no question to it, counts for nothing.

        What it has already it does not fetch: hence the most of all questions.
        """
        with self._lock:
            account = self._accounts[node]
            if name not in account.asked:  # its own pieces it may fetch as well
                return
            account.asked.remove(name)
            account.asked_bytes += size
            account.most_bytes = max(account.most_bytes, account.asked_bytes)

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


class Bounded:
    """The four of Flower's handlers through which a node's messages come and go, with bounds around them.

    Parameters
    ----------
    handlers
        Flower's module of handlers.

    """

    def __init__(self, handlers: Any) -> None:
        self._bounds = Bounds()
        self._own = {name: getattr(handlers, name) for name in HANDLERS}

    def pull_messages(self, request: Any, **more: Any) -> Any:
        """As Flower's."""
        response = self._own["pull_messages"](request=request, **more)
        if response.messages_list:
            self._bounds.asked(request.node.node_id, _objects(response.message_object_trees))
        return response

    def pull_object(self, request: Any, **more: Any) -> Any:
        """As Flower's."""
        response = self._own["pull_object"](request=request, **more)
        if response.object_content:
            self._bounds.fetched(request.node.node_id, request.object_id, len(response.object_content))
        return response

    def push_messages(self, request: Any, **more: Any) -> Any:
        """As Flower's, but for what is too much or no answer: it is refused like an answer to a run that is over."""
        node, said = request.node.node_id, [item.metadata for item in request.messages_list]
        # Flower would take it for the server's question, to whom it names, and to the site itself too.
        if any(item.src_node_id != node or not item.reply_to_message_id for item in said):
            raise _refusal("no answer, or another's")
        if not self._bounds.may_announce(node, len(_objects(request.message_object_trees))):
            raise _refusal("more answers than questions")
        return self._own["push_messages"](request=request, **more)

    def push_object(self, request: Any, **more: Any) -> Any:
        """As Flower's, but for what is too much: it is not kept."""
        if not self._bounds.may_send(request.node.node_id, len(request.object_content)):
            return flower_internal("flwr.proto.message_pb2:PushObjectResponse")(stored=False)
        return self._own["push_object"](request=request, **more)


def bind(handlers: Any) -> None:
    """Put the bounded handlers in place of Flower's."""
    bounded = Bounded(handlers)
    for name in HANDLERS:
        setattr(handlers, name, getattr(bounded, name))


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
    """Be Flower's command, with bounds."""
    bind(flower_internal("flwr.superlink.servicer.fleet.fleet_handlers"))
    command = flower_internal("flwr.superlink.cli:flower_superlink")
    gc.freeze()  # what is here now stays, and need not be looked at again and again
    threading.Thread(target=_sweep, daemon=True).start()
    sys.argv = sys.argv[1:]
    command()


if __name__ == "__main__":
    main()
