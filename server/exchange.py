"""Questions to sites and their answers over Flower's `Grid`: one answer in memory at a time, none awaited for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from shared.config import RunConfig
from shared.errors import UpdateError
from shared.messages import REGISTER, Instruction, Reply, read_reply, write_instruction, write_instructions

log = logging.getLogger(__name__)

POLL_S = 0.1
NODES_WITHIN_S = 120.0
"""How long sites may take to connect; a simulation's first answer waits for Ray, 6 to 15 s."""

Answer = Reply | UpdateError
Name = TypeVar("Name")


def find_sites(grid: Grid, config: RunConfig, run: str) -> dict[str, int]:
    """Ask every node that is or comes which sites' data it holds, until all sites of the configuration are found.

    Returns
    -------
    The node of each site that was found in time, in the configuration's order. A node may hold several sites (plain
    `flwr run .` simulates two nodes); of two that claim one site the second is refused.

    """
    wait = min(NODES_WITHIN_S, config.federation.round_timeout_s)
    deadline = time.monotonic() + wait
    asked: set[int] = set()
    pending: dict[str, int] = {}
    found: dict[str, int] = {}
    while len(found) < len(config.data.sites) and time.monotonic() < deadline:
        new = sorted(set(grid.get_node_ids()) - asked)
        question = write_instruction(Instruction(run, 0, config=config))
        pending |= _push(
            grid, {node: Message(question, dst_node_id=node, message_type=REGISTER, ttl=wait) for node in new}
        )
        asked |= set(new)
        answers = [(pending.pop(item), message) for item, message in _pull(grid, list(pending))]
        for node, message in answers:
            for name in _claims(node, message, config):
                if found.setdefault(name, node) != node:
                    log.warning("node %d also claims to be '%s' and is not asked", node, name)
        if not answers:
            time.sleep(POLL_S)
    return {name: found[name] for name in config.data.sites if name in found}


def ask(
    grid: Grid,
    nodes: Mapping[str, int],
    instruction: Instruction,
    kind: str,
    config: RunConfig,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, Answer]]:
    """Send an instruction to sites and yield their answers as they come, until the deadline.

    Parameters
    ----------
    grid, nodes
        Flower's grid and the node of each site that is asked.
    instruction, kind
        What is asked, and the type of the message.
    config
        Its `federation.round_timeout_s` is the deadline, and the message's own time to live: a late answer is dropped.
    on_wait
        Called while nothing arrives.

    """
    timeout = config.federation.round_timeout_s
    deadline = time.monotonic() + timeout
    contents = write_instructions(instruction, list(nodes))
    pending = _push(
        grid,
        {
            name: Message(records, dst_node_id=nodes[name], message_type=kind, ttl=timeout)
            for name, records in contents.items()
        },
    )
    del contents
    while pending and time.monotonic() < deadline:
        arrived = False
        for identifier in list(pending):
            # One at a time: its weights leave memory before the next answer's enter.
            for _, message in _pull(grid, [identifier]):
                arrived = True
                answer = _read(message, config, instruction.task)
                del message
                yield pending.pop(identifier), answer
        if not arrived:
            on_wait()
            time.sleep(POLL_S)


def _push(grid: Grid, messages: Mapping[Name, Message]) -> dict[str, Name]:
    """Send; what Flower does not take is as if it were never answered."""
    identifiers = list(grid.push_messages(list(messages.values()))) if messages else []
    return {item: key for item, key in zip(identifiers, messages, strict=False) if item}


def _pull(grid: Grid, identifiers: list[str]) -> Iterator[tuple[str, Message]]:
    """What has arrived, each question's first answer only."""
    left = set(identifiers)
    for message in grid.pull_messages(identifiers) if identifiers else []:
        identifier = message.metadata.reply_to_message_id
        if identifier in left:
            left.remove(identifier)
            yield identifier, message
        else:
            log.warning("a second answer to one question is dropped")


def _read(message: Message, config: RunConfig, task: str = "") -> Answer:
    try:
        return read_reply(message, config.preprocessing.post_phases, task or config.task)
    except UpdateError as error:
        return error


def _claims(node: int, message: Message, config: RunConfig) -> list[str]:
    """Names of the sites that a node says it holds."""
    answer = _read(message, config)
    if isinstance(answer, UpdateError) or answer.error:
        log.warning("node %d cannot take part: %s", node, answer if isinstance(answer, UpdateError) else answer.error)
        return []
    return [config.data.sites[index] for index in answer.sites if 0 <= index < len(config.data.sites)]
