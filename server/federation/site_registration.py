"""Which node holds which site's data: every node is asked, and believed only as far as its key goes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from server.federation.site_requests import POLL_S, pull, push, read
from server.federation.update_checks import check_error
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.instruction_reply import REGISTER, Instruction
from shared.messages.records import write_instruction
from shared.messages.versions import differences, own_versions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Sites that a node says it holds, why it is refused nevertheless, and whether it gave no answer of its own."""

    names: tuple[str, ...]
    wrong: str = ""
    silent: bool = False


def find_sites(
    grid: Grid, config: RunConfig, run: str, wait: float, asked: set[int], *, patient: bool = True
) -> tuple[dict[str, int], dict[str, str]]:
    """Ask every node that is or comes which sites' data it holds, until all sites of the configuration are found.

    Parameters
    ----------
    grid, config, run
        Flower's grid, the run's configuration and its name.
    wait
        For so long, seconds.
    asked
        Nodes that were asked before and are not asked again; those asked now are added, but for those that could not
        answer: their hospital may approve the app meanwhile.
    patient
        Whether to wait for nodes that may come; else only those that are there are asked.

    Returns
    -------
    The node of each site that was found in time, and why a site was refused: its hospital has not approved the app, or
    its versions differ from the server's. A node may hold several sites (plain `flwr run .` simulates two nodes), but
    in a consortium its key is one site's and it may claim no other; of two that claim one site the second is refused.

    """
    deadline = time.monotonic() + wait
    pending: dict[str, int] = {}
    owners: dict[int, str] = {}
    found: dict[str, int] = {}
    refused: dict[str, str] = {}
    silent: set[int] = set()
    while True:
        # With their numbers: a node that has left by the time it is believed is no longer named.
        owners |= {node.node_id: node.name for node in grid.get_nodes() if node.node_id not in asked}
        new = sorted(owners.keys() - asked)
        question = write_instruction(Instruction(run, 0, config=config))
        pending |= push(
            grid, {node: Message(question, dst_node_id=node, message_type=REGISTER, ttl=wait) for node in new}
        )
        asked |= set(new)
        answers = [(pending.pop(item), message) for item, message in pull(grid, list(pending))]
        for node, message in answers:
            claim = _claim(node, message, config, owners[node])
            silent |= {node} if claim.silent else set()
            for name in claim.names:
                if claim.wrong:
                    log.warning("%s is refused on joining: %s", name, claim.wrong)
                    refused[name] = claim.wrong
                elif found.setdefault(name, node) != node:
                    log.warning("node %d also claims to be '%s' and is not asked", node, name)
        # Also then those that were asked: the external centre's node is not waited for, but heard.
        settled = not pending and (not patient or set(config.data.sites) <= found.keys() | refused.keys())
        if settled or time.monotonic() >= deadline:
            asked -= silent
            return found, {name: reason for name, reason in refused.items() if name not in found}
        if not answers:
            time.sleep(POLL_S)


def _claim(node: int, message: Message | UpdateError | None, config: RunConfig, owner: str) -> _Claim:
    """What a node says it holds; its owner is the site with whose key it was registered, in a consortium."""
    answer = read(message, "", config, "", check_error)
    if answer.reply is None:
        log.warning("node %d cannot take part: %s", node, answer.reason)
        return _Claim((owner,) if owner in config.centres else (), answer.reason, silent=True)
    names = tuple(config.centres[index] for index in answer.reply.sites if 0 <= index < len(config.centres))
    if owner and set(names) - {owner}:
        log.warning("the node of '%s' claims to be %s and is not asked", owner, ", ".join(names))
        return _Claim(())
    wrong = differences(answer.reply.versions or {}, own_versions())
    return _Claim(names, wrong)
