"""A worker that died before it fetched its message: the node answers with an error and goes on.

Flower's node waits for the answer to a message before it asks for the next. If a worker gives no sign of life for a
minute, the node answers with an error, but only if the worker had fetched its message. Otherwise it would wait for
ever, and the hospital would be lost to the run until somebody restarts its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def answer_for_lost_workers(state: type[Any]) -> None:
    """Change a class of Flower's node states, `InMemoryNodeState`: a dead worker's message counts as fetched.

    A node has one worker at a time, so each message belongs to the worker of its run.
    """
    answer = state._on_task_tokens_expired  # noqa: SLF001 - listed in flower_internals

    def answer_all(self: Any, tasks: Sequence[Any]) -> None:
        runs = {task.run_id for task in tasks}
        with self.lock_msg_store:
            for entry in self.msg_store.values():
                facts = entry.message.metadata
                if facts.run_id in runs and not facts.reply_to_message_id:
                    entry.is_retrieved = True
        answer(self, tasks)

    state._on_task_tokens_expired = answer_all  # noqa: SLF001 - the same
