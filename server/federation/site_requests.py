"""Requests to sites and their answers over Flower's `Grid`: one answer in memory at a time, none awaited for ever."""

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

from server.run_folder.round_record import SiteEntry, Status
from server.run_folder.site_states import SiteStates
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.instruction_reply import TRAIN, Instruction, Reply
from shared.messages.records import read_reply, write_instructions

log = logging.getLogger(__name__)

POLL_S = 0.1
LOOK_S = 5.0
"""Between looks at Flower's list of the nodes that are online, while answers are awaited."""

LEAST_LEFT_S = 1.0
"""With less time before the deadline nobody is asked once more: Flower refuses a message whose time is over."""

Check = Callable[[str, Reply], None]
"""Given a site's name and its answer, takes it; raises where it must be refused, `UpdateError` where it says why."""
LATE = "no answer before the deadline"
GONE = "its connection is lost"

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request to one site.

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
    held_up
        Whether it gave no good answer, and its node being there it took more than half of the time until then.

    """

    status: Status
    reason: str = ""
    attempts: int = 0
    reply: Reply | None = None
    waited: bool = False
    held_up: bool = False

    @property
    def entry(self) -> SiteEntry:
        """The site's line in a ledger."""
        entry = SiteEntry(self.status, self.reason, attempts=self.attempts, held_up=self.held_up)
        if self.reply is not None:
            entry.cases, entry.skipped, entry.seconds = self.reply.cases, self.reply.skipped, self.reply.seconds
        return entry


class SiteRequests:
    """Requests to the sites of a run.

    `config.federation.round_timeout_s` is the deadline, and the message's own time to live, so that a late answer is
    dropped. `nodes` changes as sites leave and come back; `states` is told what each site is at.
    """

    def __init__(self, grid: Grid, config: RunConfig, nodes: Mapping[str, int], states: SiteStates) -> None:
        self.grid = grid
        self.config = config
        self.nodes = nodes
        self.states = states

    def ask(
        self,
        names: Sequence[str],
        kind: str,
        instruction: Instruction,
        check: Check,
        *,
        wait: float | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[str, Answer]]:
        """Send an instruction to sites and yield what came of it, once for each: accepted answers as they come.

        A site that failed, or whose answer is refused, is asked `federation.retries` times more before the deadline.
        One whose node is no longer online is not waited for.

        Parameters
        ----------
        names
            Who is asked.
        kind, instruction
            The type of the message, and what is asked.
        check
            Checks the answer, and does all with it that may fail: an error of any class costs this site its answer.
        wait
            Another deadline, seconds from now.
        on_wait
            Called while nothing arrives.

        """
        self.states.change(dict.fromkeys(names, ("training" if kind == TRAIN else "connected", "")))
        lasts = wait or self.config.federation.round_timeout_s
        deadline = time.monotonic() + lasts
        attempts: Counter[str] = Counter()
        pending: dict[str, str] = {}
        gone: set[str] = set()
        # What is said of a site that gives no better answer.
        last = {name: Answer("absent", LATE) for name in names}
        to_send, looked = list(names), -LOOK_S
        while (to_send or pending) and time.monotonic() < deadline:
            if to_send or time.monotonic() - looked >= LOOK_S:
                looked = time.monotonic()
                online = set(self.grid.get_node_ids())
                left = max(deadline - time.monotonic(), POLL_S)
                for name in {*to_send, *pending.values()}:
                    if self.nodes[name] not in online:
                        gone.add(name)
                        last[name] = Answer("absent", GONE, held_up=left < lasts / 2)
                pending = {identifier: name for identifier, name in pending.items() if name not in gone}
                there = [name for name in to_send if name not in gone and (left >= LEAST_LEFT_S or not attempts[name])]
                attempts.update(there)
                messages = {
                    name: Message(records, dst_node_id=self.nodes[name], message_type=kind, ttl=left)
                    for name, records in write_instructions(instruction, there).items()
                }
                # As `push` does, but without its frame. What Flower does not take is as if it were never answered.
                identifiers = list(self.grid.push_messages(list(messages.values()))) if messages else []
                pending |= {item: name for item, name in zip(identifiers, messages, strict=False) if item}
                to_send = []
                del messages
            arrived = False
            for identifier in list(pending):
                # One at a time: its weights leave memory before the next answer's enter.
                for _, message in pull(self.grid, [identifier]):
                    arrived = True
                    name = pending.pop(identifier)
                    answer = read(message, name, self.config, instruction.task, check, attempts[name])
                    del message
                    if answer.reply is not None:
                        del last[name]
                        self.states.change({name: ("connected", "")})
                        yield name, answer
                    else:
                        last[name] = replace(answer, held_up=deadline - time.monotonic() < lasts / 2)
                        to_send += [name] if answer.attempts <= self.config.federation.retries else []
                    del answer
            if not arrived and not to_send:
                on_wait()
                time.sleep(POLL_S)
        for name, answer in last.items():
            self.states.change({name: ("absent" if answer.status == "absent" else "connected", answer.reason)})
            waited = name in pending.values()
            yield name, replace(answer, attempts=attempts[name], waited=waited, held_up=waited or answer.held_up)


def push(grid: Grid, messages: Mapping[Name, Message]) -> dict[str, Name]:
    """Send; what Flower does not take is as if it were never answered."""
    identifiers = list(grid.push_messages(list(messages.values()))) if messages else []
    return {item: key for item, key in zip(identifiers, messages, strict=False) if item}


def pull(grid: Grid, identifiers: Sequence[str]) -> Iterator[tuple[str, Message | UpdateError | None]]:
    """What has arrived, each request's first answer only: an error in place of one that is too large.

    None stands for one that Flower cannot put together. Requests are looked up one by one: what is wrong with one
    site's answer must not cost another's.
    """
    for identifier in identifiers:
        try:
            messages = list(grid.pull_messages([identifier]))
        except httpx.HTTPError:  # nothing is known of the answer: the SuperLink itself does not answer
            raise
        except UpdateError as error:
            yield identifier, error
            continue
        except Exception as error:  # noqa: BLE001 - Flower reads what a site sent, in any of its libraries
            log.warning("an answer cannot be read (%s)", type(error).__name__)
            yield identifier, None
            continue
        own = [item for item in messages if item.metadata.reply_to_message_id == identifier][:1]
        if len(messages) > len(own):
            log.warning("a second answer to one request is dropped")
        if own:
            yield identifier, own[0]


def read(
    message: Message | UpdateError | None, name: str, config: RunConfig, task: str, check: Check, attempts: int = 1
) -> Answer:
    """An answer's form, whether it reports a failure, and what the caller asks of it."""
    if message is None or isinstance(message, UpdateError):
        return Answer("refused", str(message or "the answer cannot be put together"), attempts)
    failed = message.has_error()
    try:
        reply = read_reply(message, config, task or config.task)
        failed = bool(reply.error)
        check(name, reply)
    except UpdateError as error:
        return Answer("failed" if failed else "refused", str(error), attempts)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with one answer costs its site alone
        return Answer("refused", f"its answer could not be handled ({type(error).__name__})", attempts)
    return Answer("accepted", "", attempts, reply)
