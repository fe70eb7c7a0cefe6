"""A worker that died before it took up its message: the hospital answers for it, and goes on.

Flower's node waits for the answer to a message before it asks for the next. Of a worker that died it hears after a
minute without a sign of life, and answers with an error, but only where the worker had fetched its message; otherwise
it would wait for ever, and the hospital be lost to the run until somebody starts its node anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def answer_for_the_lost(state: type[Any]) -> None:
    """Change a class of Flower's node states: a dead worker's message counts as fetched.

    Parameters
    ----------
    state
        `InMemoryNodeState`. Each of its messages belongs to the one worker of its run, as a node has one at a time.

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
