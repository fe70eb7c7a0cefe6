"""Flower's grid, but that an answer which is still on its way up is as if it had not come.

Flower's own waits for an upload that has begun, for up to two hours, and looks for its end with pauses of ten seconds;
meanwhile no other site's answer is fetched and no deadline is looked at. Here an upload is looked for at every pull.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import ArrayRecord, Error, Message, Metadata
from flwr.serverapp import Grid

from server.federation.inflated_size import check_inflated
from shared.runtime.flower_internals import flower_internal, number_message

log = logging.getLogger(__name__)

HttpGrid = flower_internal("flwr.superlink.grid.http_grid:HttpGrid")
PullAppMessagesRequest = flower_internal("flwr.proto.runtime_pb2:PullAppMessagesRequest")
ConfirmMessageReceivedRequest = flower_internal("flwr.proto.message_pb2:ConfirmMessageReceivedRequest")
make_message = flower_internal("flwr.app.message:make_message")
iterate_object_tree = flower_internal("flwr.supercore.inflatable.inflatable_object:iterate_object_tree")
make_pull = flower_internal("flwr.supercore.inflatable.inflatable_protobuf_utils:make_pull_object_fn_protobuf")
inflate = flower_internal("flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents")
ObjectPullError = flower_internal("flwr.supercore.inflatable.inflatable_utils:ObjectPullError")
ObjectUnavailableError = flower_internal("flwr.supercore.inflatable.inflatable_utils:ObjectUnavailableError")
UPLOAD_LOST = flower_internal("flwr.common.constant:ErrorCode").MESSAGE_UNAVAILABLE
SYSTEM_MESSAGE = flower_internal("flwr.supercore.constant:SYSTEM_MESSAGE_TYPE")

_AT_ONCE = 2
_SPARE_BYTES = 16 << 20
"""So much more than the longest question may an answer be (scenario 64)."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_PAUSE = 0.1
"""Pause between looks for an upload, as a share of the time it has taken so far: so much later is it seen at most."""


@dataclass(slots=True)
class _Coming:
    """An answer that was announced: the objects it consists of, its own last, and when to look for them again."""

    message: str
    objects: list[str]
    until: float
    since: float
    look_at: float = 0.0


class WholeAnswers:
    """Flower's `HttpGrid`, except that `pull_messages` gives what has arrived whole, and never waits."""

    def __init__(self, grid: Any) -> None:
        self._grid = grid
        self._coming: dict[str, _Coming] = {}
        self._longest = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answers to these questions that are there whole; of one whose upload was given up, an error in its place.

        `UpdateError` where an answer would become too large in memory.
        """
        now = time.time()
        self._coming = {key: item for key, item in self._coming.items() if now < item.until}
        wanted = list(message_ids)
        self._announced([key for key in wanted if key not in self._coming])
        found = (self._whole(key) for key in wanted if key in self._coming)
        return [message for message in found if message is not None]

    def _announced(self, questions: list[str]) -> None:
        """Note which answers have begun to come: Flower tells of each once."""
        if not questions:
            return
        answer = self._client.PullMessages(PullAppMessagesRequest(message_ids=questions))
        for sent, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            facts = sent.metadata
            parts = [item.object_id for item in iterate_object_tree(tree)]
            until = facts.created_at + facts.ttl if facts.ttl else float("inf")
            self._coming.setdefault(
                facts.reply_to_message_id, _Coming(facts.message_id, parts, until, time.monotonic())
            )

    def _whole(self, question: str) -> Message | None:
        item = self._coming[question]
        if time.monotonic() < item.look_at:
            return None
        run = self._grid.run.run_id
        fetch = make_pull(self._client.PullObject, self._grid.node, run)
        try:
            fetch(item.objects[-1])  # small, and sent last: without it the rest need not be looked for
            contents = self._fetched(item.objects, fetch)
        except ObjectUnavailableError:
            now = time.monotonic()
            item.look_at = now + min(max((now - item.since) * _PAUSE, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            return None
        except ObjectPullError:
            del self._coming[question]
            return self._given_up(question)
        del self._coming[question]
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self._grid.node, run_id=run, message_object_id=item.message)
        )
        check_inflated(contents, self._longest + _SPARE_BYTES)
        message: Message = inflate(item.message, contents)
        number_message(message, item.message)
        return message

    def _fetched(self, objects: list[str], fetch: Callable[[str], bytes]) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        total = 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(objects), _AT_ONCE):
                some = objects[start : start + _AT_ONCE]
                contents |= zip(some, pool.map(fetch, some), strict=True)
                total += sum(len(contents[name]) for name in some)
                if total > self._longest + _SPARE_BYTES:
                    log.warning("an answer is longer than %d MB and is not fetched", total >> 20)
                    raise ObjectPullError(some[0], "too long")
        return contents

    def _given_up(self, question: str) -> Message:
        """What Flower's own grid says then."""
        own = self._grid.node.node_id
        facts = Metadata(
            run_id=self._grid.run.run_id,
            message_id="",
            src_node_id=own,
            dst_node_id=own,
            reply_to_message_id=question,
            group_id="",
            created_at=time.time(),
            ttl=0,
            message_type=SYSTEM_MESSAGE,
        )
        answer: Message = make_message(metadata=facts, error=Error(code=UPLOAD_LOST, reason=""))
        return answer

    @property
    def _client(self) -> Any:
        return self._grid._runtime_client  # noqa: SLF001 - listed in flower_internals

    def __getattr__(self, name: str) -> Any:
        """All else is as Flower's."""
        return getattr(self._grid, name)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As Flower's; notes the longest question."""
        asked = list(messages)
        for message in asked:
            arrays = [record for record in message.content.values() if isinstance(record, ArrayRecord)]
            self._longest = max(self._longest, sum(len(item.data) for record in arrays for item in record.values()))
        identifiers: Iterable[str] = self._grid.push_messages(asked)
        return identifiers


def whole_answers(grid: Grid) -> Grid:
    """A grid that does not wait for uploads; one of a simulation has none and stays as it is."""
    return cast("Grid", WholeAnswers(grid)) if isinstance(grid, HttpGrid) else grid
