"""A federation in one process: the same ServerApp loop, the same ClientApp, the same messages, no Ray and no network.

For studies, which run many federations, and for tests. The bytes are those of `flwr run`: both sides see the same
records, and a site's draws depend on its seed alone.
"""

from __future__ import annotations

import copy
import itertools
import time
import tomllib
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from shared.errors import RunError
from shared.runtime.flower_internals import flower_internal, number_message
from shared.runtime.project import project_root


def client_app() -> ClientApp:
    """The project's ClientApp, by the name that `pyproject.toml` gives this component, as Flower finds it.

    `RunError` where there is no `pyproject.toml`.
    """
    # Beside the code first: FEDBREAST_ROOT may lead to a folder of data and runs alone.
    places = [root / "pyproject.toml" for root in (Path(__file__).parents[2], project_root())]
    file = next((path for path in places if path.is_file()), None)
    if file is None:
        raise RunError("no pyproject.toml beside the code: run a study from a checkout, or set FEDBREAST_ROOT to one")
    project = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    module, _, name = project["tool"]["flwr"]["app"]["components"]["clientapp"].partition(":")
    app: ClientApp = getattr(import_module(module), name)
    return app


class InProcessGrid(Grid):
    """Flower's grid with a number of `sites` behind it in this process, each running `app`.

    `run_config` is what `flwr run --run-config` would give. Each site has its partition's number in its node
    configuration. `order` arranges the answers of a push, to try other orders of arrival.
    """

    def __init__(
        self,
        app: ClientApp,
        run_config: dict[str, bool | float | int | str],
        sites: int,
        order: Callable[[list[str]], list[str]] = lambda identifiers: identifiers,
    ) -> None:
        self._app = app
        self._order = order
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Message] = {}
        self._queues: list[list[str]] = []
        # Flower stamps messages with its process's task; in this process there is none.
        task = flower_internal("flwr.supercore.task_identity:TaskIdentity")
        task.task_id, task.run_id, task.node_id = 1, 1, 0
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - 1, "num-partitions": sites},
                state=RecordDict(),
                run_config=run_config,
            )
            for node in range(1, sites + 1)
        }

    def get_node_ids(self) -> Iterable[int]:
        """Every site's node."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until they are pulled; a site works when its answer is asked for."""
        identifiers = []
        for message in messages:
            identifier = f"message-{next(self._numbers)}"
            # What Flower's SuperLink sets; without it a reply cannot refer to its message.
            number_message(message, identifier)
            self._waiting[identifier] = message
            identifiers.append(identifier)
        self._queues.append(self._order(list(identifiers)))
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The next answer to a push, if it is among those asked for."""
        self._drop_dead()
        wanted = set(message_ids)
        queue = next((queue for queue in self._queues if queue[0] in wanted), None)
        if queue is None:
            return []
        message = self._waiting.pop(queue.pop(0))
        # A site must not see the server's own objects: over a network it would get a copy.
        return [self._app(copy.deepcopy(message), self._contexts[message.metadata.dst_node_id])]

    def _drop_dead(self) -> None:
        """Forget what nobody answers any more: messages older than their time to live, and those to nodes that left."""
        now, online = time.time(), set(self.get_node_ids())
        for queue in self._queues:
            for identifier in list(queue):
                facts = self._waiting[identifier].metadata
                if now > facts.created_at + facts.ttl or facts.dst_node_id not in online:
                    queue.remove(identifier)
                    del self._waiting[identifier]
        self._queues = [queue for queue in self._queues if queue]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull everything."""
        del timeout
        identifiers = list(self.push_messages(messages))
        return [answer for _ in identifiers for answer in self.pull_messages(identifiers)]

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message, as Flower's own grid does."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def set_run(self, run: object) -> NoReturn:
        """Refuse: there is no Flower run here."""
        raise NotImplementedError(f"an in-process grid belongs to no Flower run ({run!r})")

    @property
    def run(self) -> NoReturn:
        """Refuse: there is no Flower run here."""
        raise NotImplementedError("an in-process grid belongs to no Flower run")
