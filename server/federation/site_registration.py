"""Which node holds which site's data: every node is asked, and believed only as far as its key goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from server.federation.site_requests import LOOK_S, POLL_S, pull, push, read
from server.federation.update_checks import check_error
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.instruction_reply import REGISTER, Instruction, SiteFacts
from shared.messages.records import write_instruction
from shared.messages.versions import differences, own_versions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """The node of each site that was found, what it tells of the site, and why other sites were refused."""

    nodes: dict[str, int] = field(default_factory=dict)
    facts: dict[str, SiteFacts] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Sites that a node says it holds, why it is refused nevertheless, and whether it gave no answer of its own.

    Of each site what the node tells of it, where it does.
    """

    names: tuple[str, ...]
    wrong: str = ""
    unable: bool = False
    facts: Mapping[str, SiteFacts] = field(default_factory=dict)


class SiteRegistration:
    """Asks every node that is or comes which sites' data it holds and what they are.

    A question is put once, unless the node could not answer it (its hospital may approve the app meanwhile), has left
    since, or is to be asked again; one that is not answered in time is not waited for, but its answer still counts.
    """

    def __init__(self, grid: Grid, config: RunConfig, run: str) -> None:
        self.grid = grid
        self.config = config
        self.run = run
        self._asked: set[int] = set()
        self._met: set[int] = set()  # also those that left
        self._pending: dict[str, tuple[int, float]] = {}  # a question's node, and until when it may be answered
        self._owners: dict[int, str] = {}

    def is_news(self, online: Collection[int]) -> bool:
        """Whether there are nodes to ask, or answers to come."""
        self._asked &= set(online)
        return bool(set(online) - self._asked or self._pending)

    def look(self, wait: float, awaited: Collection[str] = (), again: Collection[int] = ()) -> Registration:
        """Ask who is new, and take the answers that there are.

        Parameters
        ----------
        wait
            Seconds: for the `awaited` sites, and for new nodes' answers; for those of a node that came back no longer
            than `LOOK_S`.
        awaited
            Sites whose nodes may still come.
        again
            Nodes to be asked again, which are not waited for: a later look takes their answers.

        Returns
        -------
        A site is refused because its hospital has not approved the app, or its versions differ from the server's. A
        node may hold several sites (plain `flwr run .` simulates two nodes), but in a consortium its key is one site's
        and it may claim no other; of two that claim one site the second is refused.

        """
        started = time.monotonic()
        self._pending = {item: known for item, known in self._pending.items() if started < known[1]}
        self._asked -= set(again) - {node for node, _ in self._pending.values()}
        result = Registration()
        waited_for: dict[int, float] = {}
        unable: set[int] = set()
        while True:
            waited_for |= self._ask_new(wait, started, again)
            answers = [(self._pending.pop(item)[0], message) for item, message in pull(self.grid, list(self._pending))]
            for node, message in answers:
                waited_for.pop(node, None)
                if self._take(node, message, result):
                    unable.add(node)
            now, missing = time.monotonic(), set(awaited) - result.nodes.keys() - result.refused.keys()
            # Also the external centre's node, which may not be awaited, is heard.
            if now >= max([*waited_for.values(), started + wait if missing else started]):
                self._asked -= unable
                for name in result.nodes:
                    result.refused.pop(name, None)
                return result
            if not answers:
                time.sleep(POLL_S)

    def _ask_new(self, wait: float, started: float, again: Collection[int]) -> dict[int, float]:
        """Ask nodes that were not asked; return until when each is waited for."""
        # With their names: a node that has left by the time it is believed is no longer named.
        nodes = {node.node_id: node.name for node in self.grid.get_nodes() if node.node_id not in self._asked}
        self._owners |= nodes
        lasts = self.config.federation.round_timeout_s
        question = write_instruction(Instruction(self.run, 0, config=self.config))
        messages = {node: Message(question, dst_node_id=node, message_type=REGISTER, ttl=lasts) for node in nodes}
        sent = push(self.grid, messages)
        self._pending |= {item: (node, started + lasts) for item, node in sent.items()}
        known = {node: min(wait, LOOK_S) for node in self._met} | dict.fromkeys(again, 0.0)
        waits = {node: started + known.get(node, wait) for node in sent.values()}
        self._asked |= nodes.keys()
        self._met |= nodes.keys()
        return waits

    def _take(self, node: int, message: Message | UpdateError | None, result: Registration) -> bool:
        """Enter what a node says it holds; returns whether it could not answer."""
        claim = _claim(node, message, self.config, self._owners[node])
        for name in claim.names:
            if claim.wrong:
                log.warning("%s is refused on joining: %s", name, claim.wrong)
                result.refused[name] = claim.wrong
            elif result.nodes.setdefault(name, node) != node:
                log.warning("node %d also claims to be '%s' and is not asked", node, name)
            elif name in claim.facts:
                result.facts[name] = claim.facts[name]
        return claim.unable


def _claim(node: int, message: Message | UpdateError | None, config: RunConfig, owner: str) -> _Claim:
    """What a node says it holds; its owner is the site with whose key it was registered, in a consortium."""
    answer = read(message, "", config, "", check_error)
    if answer.reply is None:
        log.warning("node %d cannot take part: %s", node, answer.reason)
        return _Claim((owner,) if owner in config.centres else (), answer.reason, unable=True)
    known = dict(enumerate(config.centres))
    names = tuple(known[index] for index in answer.reply.sites if index in known)
    if owner and set(names) - {owner}:
        log.warning("the node of '%s' claims to be %s and is not asked", owner, ", ".join(names))
        return _Claim(())
    facts = {known[index]: told for index, told in answer.reply.facts.items() if index in known}
    return _Claim(names, differences(answer.reply.versions or {}, own_versions()), facts=facts)
