"""The loop of a federation on Flower's `Grid`: register, plan, prepare, rounds; absent and bad sites do not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from server.averaging import RunningAverage
from server.gate import Expected, check_answer, check_update
from server.journal import RoundRecord, RunFolder, SiteEntry
from server.strategies import strategy_for
from shared.config import RunConfig
from shared.errors import RunError, UpdateError
from shared.messages import (
    EVALUATE,
    FINGERPRINT,
    PREPARE,
    TRAIN,
    Instruction,
    Reply,
    State,
    flatten,
    manifest_of,
    read_reply,
    unflatten,
    write_instruction,
)
from shared.metrics.counts import SegmentationSums
from shared.preprocessing.fingerprint import SiteFingerprint, make_plan
from shared.preprocessing.plan import Plan
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.types import FloatArray

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""Called with (phase, done, total, text)."""

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Registered:
    """A site in the federation: its node and how many cases it has in each split."""

    node: int
    name: str
    included: Mapping[str, int]


class Federation:
    """The sites of a run and the messages to them.

    Parameters
    ----------
    grid
        Flower's grid, or the in-process one of `server.studies.in_process`.
    config
        The run's configuration.
    folder
        The run's folder; its name is the run's.
    on_progress
        Where to report.

    """

    def __init__(self, grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress) -> None:
        self.grid = grid
        self.config = config
        self.folder = folder
        self.on_progress = on_progress
        self.sites: list[Registered] = []
        self.lost: dict[str, SiteEntry] = {}
        self.plan: Plan | None = None

    def register(self) -> None:
        """Ask every node for its fingerprint, merge them into the plan, and have every site prepare its cases.

        Raises
        ------
        RunError
            Fewer than `min_sites` can take part.

        """
        wanted = len(self.config.data.sites)
        nodes = self._wait_for_nodes(wanted)
        merged = SiteFingerprint.empty(self.config.preprocessing.post_phases)
        names: dict[int, str] = {}
        instruction = Instruction(self.folder.path.name, 0)
        done = 0
        for node, answer in self._ask(dict.fromkeys(nodes, instruction), FINGERPRINT):
            done += 1
            try:
                reply = _raise_if_bad(answer)
                name = self._admit(reply, names)
                if reply.fingerprint is None:
                    raise UpdateError("the answer holds no fingerprint")
            except UpdateError as error:
                self._lose(node, answer, error)
                continue
            names[node] = name
            merged = merged + reply.fingerprint
            self.on_progress("fingerprint", done, len(nodes), name)
        self.plan = self.folder.plan() or make_plan(merged, self.config)
        self.folder.write_plan(self.plan)
        self._prepare(names)
        for name in set(self.config.data.sites) - {site.name for site in self.sites} - set(self.lost):
            self.lost[name] = SiteEntry("absent", "never connected")
        if len(self.sites) < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in sorted(self.lost.items()))
            raise RunError(
                f"{len(self.sites)} of {wanted} sites can take part, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons})",
            )

    def train(self) -> list[RoundRecord]:
        """Run the rounds that are not committed yet; return every round's record.

        Raises
        ------
        RunError
            A round had fewer than `min_sites` good answers; what was committed stays.

        """
        records = self.folder.records()
        model = task_named(self.config.task).build_model(self.config)
        strategy = strategy_for(self.config.federation)
        if not records:
            start = RoundRecord(0, state_hash(model.state_dict()), 0.0)
            self.folder.commit(start, model.state_dict(), {})
            records = [start]
        state = self.folder.model(records[-1])
        like = model.state_dict()
        moments: Mapping[str, FloatArray] = self.folder.moments(records[-1])
        total = self.config.federation.rounds
        for number in range(records[-1].round + 1, total + 1):
            started = time.perf_counter()
            self.on_progress("train", number - 1, total, f"round {number}: training")
            current = flatten(state)
            average, ledger = self._collect(number, current, manifest_of(like))
            weights, moments = strategy.step(current, average, number, moments)
            state = unflatten(weights, like)
            self.on_progress("train", number - 1, total, f"round {number}: validating")
            for name, sums in self.evaluate(state, number, "validation").items():
                ledger[name].validation = sums.to_dict()
            record = RoundRecord(number, state_hash(state), time.perf_counter() - started, ledger)
            self.folder.commit(record, state, moments)
            records.append(record)
            dice = record.validation_dice()
            shown = f"validation Dice {dice:.3f}" if dice is not None else "no validation cases"
            log.info("round %d of %d: %s, model %s", number, total, shown, record.model_hash[:12])
            self.on_progress("train", number, total, shown)
        return records

    def evaluate(self, state: State, number: int, split: str) -> dict[str, SegmentationSums]:
        """Have the sites evaluate a model on their own cases; sites without any, or failing, are left out."""
        weights, manifest = flatten(state), manifest_of(state)
        instruction = Instruction(self._run, number, self.plan, split, weights, manifest)
        asked = {site.node: instruction for site in self.sites if site.included[split] > 0}
        names = {site.node: site.name for site in self.sites}
        found: dict[str, SegmentationSums] = {}
        for node, answer in self._ask(asked, EVALUATE):
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(names[node], self._run, number))
                if reply.sums is None:
                    raise UpdateError("the answer holds no sums")
            except UpdateError as error:
                log.warning("%s is missing from the %s figures of round %d: %s", names[node], split, number, error)
                continue
            found[names[node]] = reply.sums
        return {site.name: found[site.name] for site in self.sites if site.name in found}

    @property
    def _run(self) -> str:
        return self.folder.path.name

    def _collect(self, number: int, weights: FloatArray, manifest: str) -> tuple[FloatArray, dict[str, SiteEntry]]:
        """One round's answers through the gate into the running average; returns it and the ledger."""
        instruction = Instruction(self._run, number, self.plan, "train", weights, manifest)
        by_node = {site.node: site for site in self.sites}
        ledger = {name: self.lost[name] for name in self.config.data.sites if name in self.lost}
        ledger |= {site.name: SiteEntry("absent", "no answer before the deadline") for site in self.sites}
        average = RunningAverage(len(weights))
        for node, answer in self._ask(dict.fromkeys(by_node, instruction), TRAIN):
            site = by_node[node]
            try:
                reply = _raise_if_bad(answer)
                cases = site.included["train"]
                check_update(reply, Expected(site.name, self._run, number, manifest, cases, len(weights)))
            except UpdateError as error:
                failed = isinstance(answer, Reply) and bool(answer.error)
                ledger[site.name] = SiteEntry("failed" if failed else "refused", str(error))
                log.warning("round %d, %s: %s", number, site.name, error)
                continue
            assert reply.weights is not None  # noqa: S101 - the gate saw it
            average.add(reply.weights, reply.cases)
            ledger[site.name] = SiteEntry("accepted", "", reply.cases, reply.seconds, reply.loss)
        good = sum(entry.status == "accepted" for entry in ledger.values())
        if good < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in ledger.items() if entry.reason)
            raise RunError(
                f"round {number} has {good} good answers, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons}); the last committed round is kept: mend and resume",
            )
        ordered = {name: ledger[name] for name in self.config.data.sites}
        return average.mean(), ordered

    def _prepare(self, names: Mapping[int, str]) -> None:
        instruction = Instruction(self._run, 0, self.plan)
        flow = self.folder.flow()
        done = 0
        for node, answer in self._ask(dict.fromkeys(names, instruction), PREPARE):
            done += 1
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(names[node], self._run, 0))
                if not reply.included or reply.included.get("train", 0) <= 0:
                    raise UpdateError("no training case is left")
            except UpdateError as error:
                self._lose(node, answer, error, names[node])
                continue
            self.sites.append(Registered(node, names[node], dict(reply.included)))
            flow[names[node]] = {
                "role": "training",
                "included": dict(reply.included),
                "excluded": dict(reply.excluded or {}),
            }
            self.on_progress("prepare", done, len(names), names[node])
        order = list(self.config.data.sites)
        self.sites.sort(key=lambda site: order.index(site.name))
        self.folder.write_flow(flow)

    def _admit(self, reply: Reply, names: Mapping[int, str]) -> str:
        check_answer(reply, Expected(reply.site, self._run, 0))
        if reply.site not in self.config.data.sites:
            raise UpdateError("its name is not in data.sites")
        if reply.site in names.values():
            raise UpdateError(f"a second node claims to be '{reply.site}'")
        return reply.site

    def _lose(self, node: int, answer: Reply | UpdateError, error: UpdateError, name: str = "") -> None:
        site = name or (answer.site if isinstance(answer, Reply) else "")
        log.warning("node %d%s cannot take part: %s", node, f" ({site})" if site else "", error)
        if site in self.config.data.sites:
            self.lost[site] = SiteEntry("failed", str(error))

    def _wait_for_nodes(self, wanted: int) -> list[int]:
        deadline = time.monotonic() + min(NODES_WITHIN_S, self.config.federation.round_timeout_s)
        nodes = sorted(self.grid.get_node_ids())
        while len(nodes) < wanted and time.monotonic() < deadline:
            time.sleep(POLL_S)
            nodes = sorted(self.grid.get_node_ids())
        return nodes

    def _ask(self, asked: Mapping[int, Instruction], kind: str) -> Iterator[tuple[int, Reply | UpdateError]]:
        """Send instructions and yield answers as they come, one in memory at a time, until the deadline.

        An answer of an earlier round is never pulled: its message is not among those asked for here.
        """
        timeout = self.config.federation.round_timeout_s
        messages = {
            node: Message(
                write_instruction(item), dst_node_id=node, message_type=kind, ttl=timeout, group_id=str(item.round)
            )
            for node, item in asked.items()
        }
        pending = dict(zip(self.grid.push_messages(messages.values()), messages, strict=True))
        deadline = time.monotonic() + timeout
        while pending and time.monotonic() < deadline:
            arrived = False
            for identifier in list(pending):
                for message in self.grid.pull_messages([identifier]):
                    arrived = True
                    node = pending.pop(identifier)
                    try:
                        answer: Reply | UpdateError = read_reply(message, self.config.preprocessing.post_phases)
                    except UpdateError as error:
                        answer = error
                    del message  # its weights are the largest thing here
                    yield node, answer
            if not arrived:
                time.sleep(POLL_S)


NODES_WITHIN_S = 120.0


def _raise_if_bad(answer: Reply | UpdateError) -> Reply:
    if isinstance(answer, UpdateError):
        raise answer
    return answer
