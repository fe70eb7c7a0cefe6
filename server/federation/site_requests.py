"""Questions to sites and their answers over Flower's `Grid`: one answer in memory at a time, none awaited for ever."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import httpx
from flwr.app import Message
from flwr.serverapp import Grid

from server.run_folder.round_record import Status
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.instruction_reply import Instruction, Reply
from shared.messages.records import read_reply, write_instructions

log = logging.getLogger(__name__)

POLL_S = 0.1
LOOK_S = 5.0
"""Between questions to Flower for the nodes that are online, while answers are awaited."""

Check = Callable[[str, Reply], None]
"""Given a site's name and its answer, raises `UpdateError` where it must be refused."""
LATE = "no answer before the deadline"
GONE = "its connection is lost"

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question to one site.

    Attributes
    ----------
    status, reason
        Whether its answer was accepted, and why not.
    attempts
        How often it was asked.
    reply
        The accepted answer.
    waited
        Whether it was waited for until the deadline.

    """

    status: Status
    reason: str = ""
    attempts: int = 0
    reply: Reply | None = None
    waited: bool = False


def ask(
    grid: Grid,
    nodes: Mapping[str, int],
    instruction: Instruction,
    kind: str,
    config: RunConfig,
    check: Check,
    *,
    wait: float | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, Answer]]:
    """Send an instruction to sites and yield what came of it, once for each: accepted answers as they come.

    A site that failed, or whose answer is refused, is asked `federation.retries` times more before the deadline. One
    whose node is no longer online is not waited for.

    Parameters
    ----------
    grid, nodes
        Flower's grid and the node of each site that is asked.
    instruction, kind
        What is asked, and the type of the message.
    config
        Its `federation.round_timeout_s` is the deadline, and the message's own time to live: a late answer is dropped.
    check
        What the answer must be.
    wait
        Another deadline, seconds from now.
    on_wait
        Called while nothing arrives.

    """
    deadline = time.monotonic() + (wait or config.federation.round_timeout_s)
    open_ones = _Questions(grid, nodes, instruction, kind, deadline)
    # What is said of a site that gives no better answer.
    last = {name: Answer("absent", LATE) for name in nodes}
    open_ones.send(list(nodes))
    while open_ones.pending and time.monotonic() < open_ones.deadline:
        again = []
        arrived = False
        for identifier in list(open_ones.pending):
            # One at a time: its weights leave memory before the next answer's enter.
            for _, message in pull(grid, [identifier]):
                arrived = True
                name = open_ones.pending.pop(identifier)
                answer = read(message, name, config, instruction.task, check, open_ones.attempts[name])
                del message
                if answer.reply is not None:
                    del last[name]
                    yield name, answer
                else:
                    last[name] = answer
                    again += [name] if answer.attempts <= config.federation.retries else []
                del answer
        open_ones.send(again)
        if not arrived:
            on_wait()
            open_ones.look()
            time.sleep(POLL_S)
    for name, answer in last.items():
        found = Answer("absent", GONE) if name in open_ones.gone else answer
        waited = name in open_ones.pending.values()
        yield name, replace(found, attempts=open_ones.attempts[name], waited=waited)


class _Questions:
    """The same question to several sites: which are open, and who was asked how often."""

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        instruction: Instruction,
        kind: str,
        deadline: float,
    ) -> None:
        self.grid = grid
        self.nodes = nodes
        self.instruction = instruction
        self.kind = kind
        self.deadline = deadline
        self.attempts: Counter[str] = Counter()
        self.pending: dict[str, str] = {}
        self.gone: set[str] = set()
        self._looked = -LOOK_S

    def send(self, names: Sequence[str]) -> None:
        """Ask sites whose node is online; their messages live until the deadline."""
        if not names:
            return
        self.look(names)
        there = [name for name in names if name not in self.gone]
        self.attempts.update(there)
        left = max(self.deadline - time.monotonic(), POLL_S)
        messages = {
            name: Message(records, dst_node_id=self.nodes[name], message_type=self.kind, ttl=left)
            for name, records in write_instructions(self.instruction, there).items()
        }
        self.pending |= push(self.grid, messages)

    def look(self, names: Sequence[str] = ()) -> None:
        """Give up sites whose node is no longer online: of those asked now, and now and then of those awaited."""
        if not names and time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        online = set(self.grid.get_node_ids())
        self.gone |= {name for name in {*names, *self.pending.values()} if self.nodes[name] not in online}
        self.pending = {item: name for item, name in self.pending.items() if name not in self.gone}


def push(grid: Grid, messages: Mapping[Name, Message]) -> dict[str, Name]:
    """Send; what Flower does not take is as if it were never answered."""
    identifiers = list(grid.push_messages(list(messages.values()))) if messages else []
    return {item: key for item, key in zip(identifiers, messages, strict=False) if item}


def pull(grid: Grid, identifiers: Sequence[str]) -> Iterator[tuple[str, Message | None]]:
    """What has arrived, each question's first answer only; None for one that Flower cannot put together.

    Questions are looked up one by one: what is wrong with one site's answer must not cost another's.
    """
    for identifier in identifiers:
        try:
            messages = list(grid.pull_messages([identifier]))
        except httpx.HTTPError:  # nothing is known of the answer: the SuperLink itself does not answer
            raise
        except Exception as error:  # noqa: BLE001 - Flower reads what a site sent, in any of its libraries
            log.warning("an answer cannot be read (%s)", type(error).__name__)
            yield identifier, None
            continue
        own = [item for item in messages if item.metadata.reply_to_message_id == identifier][:1]
        if len(messages) > len(own):
            log.warning("a second answer to one question is dropped")
        if own:
            yield identifier, own[0]


def read(message: Message | None, name: str, config: RunConfig, task: str, check: Check, attempts: int = 1) -> Answer:
    """An answer's form, whether it reports a failure, and what the caller asks of it."""
    if message is None:
        return Answer("refused", "the answer cannot be put together", attempts)
    failed = message.has_error()
    try:
        reply = read_reply(message, config, task or config.task)
        failed = bool(reply.error)
        check(name, reply)
    except UpdateError as error:
        return Answer("failed" if failed else "refused", str(error), attempts)
    return Answer("accepted", "", attempts, reply)
