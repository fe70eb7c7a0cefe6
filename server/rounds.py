"""The loop of a federation on Flower's `Grid`: register, plan, prepare, rounds; absent and bad sites do not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.serverapp import Grid

from server.averaging import RunningAverage
from server.exchange import Answer, ask, find_sites
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
    unflatten,
)
from shared.metrics.counts import SegmentationSums
from shared.preprocessing.fingerprint import SiteFingerprint, make_plan
from shared.preprocessing.plan import Plan
from shared.progress import read_progress, site_progress_path
from shared.project import cache_root
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.types import FloatArray

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""Called with (phase, done, total, text)."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A site in the federation and how many cases it has in each split."""

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
        self.nodes: dict[str, int] = {}
        self.sites: list[Registered] = []
        self.lost: dict[str, SiteEntry] = {}
        self.plan: Plan | None = None

    def register(self) -> None:
        """Find the sites, merge their fingerprints into the plan, and have each prepare its cases.

        A resumed run keeps its plan, and each site must still have the cases it had.

        Raises
        ------
        RunError
            Fewer than `min_sites` can take part.

        """
        names = self.config.data.sites
        self.on_progress("register", 0, len(names), "")
        self.nodes = find_sites(self.grid, self.config, self._run)
        self.lost = {name: SiteEntry("absent", "never connected") for name in names if name not in self.nodes}
        self.plan = self.folder.plan()
        if self.plan is None:
            merged = self._fingerprint()
            self._need(len(set(self.nodes) - set(self.lost)))
            self.plan = make_plan(merged, self.config)
            self.folder.write_plan(self.plan)
        self._prepare()
        self._need(len(self.sites))

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
        asked = [site.name for site in self.sites if site.included[split] > 0]
        found: dict[str, SegmentationSums] = {}
        instruction = replace(self._instruction(number), split=split, weights=weights, manifest=manifest)
        for name, answer in self._ask(asked, EVALUATE, instruction):
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(name, self._run, number))
                if reply.sums is None:
                    raise UpdateError("the answer holds no sums")
            except UpdateError as error:
                log.warning("%s is missing from the %s figures of round %d: %s", name, split, number, error)
                continue
            found[name] = reply.sums
        return {name: found[name] for name in asked if name in found}

    @property
    def _run(self) -> str:
        return self.folder.path.name

    def _instruction(self, number: int = 0) -> Instruction:
        return Instruction(self._run, number, self.plan, config=self.config)

    def _ask(
        self, names: Sequence[str], kind: str, instruction: Instruction, phase: str = ""
    ) -> Iterator[tuple[str, Answer]]:
        """Ask sites the same; while they work on `phase`, report how far they are."""
        nodes = {name: self.nodes[name] for name in names}
        return ask(self.grid, nodes, instruction, kind, self.config, lambda: self._watch_sites(phase))

    def _collect(self, number: int, weights: FloatArray, manifest: str) -> tuple[FloatArray, dict[str, SiteEntry]]:
        """One round's answers through the gate into the running average; returns it and the ledger."""
        counts = {site.name: site.included["train"] for site in self.sites}
        ledger = dict(self.lost) | {name: SiteEntry("absent", "no answer before the deadline") for name in counts}
        average = RunningAverage(len(weights))
        instruction = replace(self._instruction(number), split="train", weights=weights, manifest=manifest)
        for name, answer in self._ask(list(counts), TRAIN, instruction):
            try:
                reply = _raise_if_bad(answer)
                check_update(reply, Expected(name, self._run, number, manifest, counts[name], len(weights)))
            except UpdateError as error:
                failed = isinstance(answer, Reply) and bool(answer.error)
                ledger[name] = SiteEntry("failed" if failed else "refused", str(error))
                log.warning("round %d, %s: %s", number, name, error)
                continue
            assert reply.weights is not None  # noqa: S101 - the gate saw it
            average.add(reply.weights, reply.cases)
            ledger[name] = SiteEntry("accepted", "", reply.cases, reply.seconds, reply.loss)
        good = sum(entry.status == "accepted" for entry in ledger.values())
        if good < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in ledger.items() if entry.reason)
            raise RunError(
                f"round {number} has {good} good answers, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons}); the last committed round is kept: mend and resume",
            )
        return average.mean(), {name: ledger[name] for name in self.config.data.sites}

    def _fingerprint(self) -> SiteFingerprint:
        """Merge the sites' fingerprints; a site whose answer is bad is lost."""
        merged = SiteFingerprint.empty(self.config.preprocessing.post_phases)
        for name, answer in self._ask(list(self.nodes), FINGERPRINT, self._instruction(), "fingerprint"):
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(name, self._run, 0))
                if reply.fingerprint is None:
                    raise UpdateError("the answer holds no fingerprint")
            except UpdateError as error:
                self._lose(name, error)
                continue
            merged = merged + reply.fingerprint
        return merged

    def _prepare(self) -> None:
        """Have every site prepare its cases; register those that have some to train on."""
        before = self.folder.flow()
        flow: dict[str, dict[str, object]] = dict(before)
        names = [name for name in self.nodes if name not in self.lost]
        for name in names:
            self.lost[name] = SiteEntry("absent", "did not prepare its cases before the deadline")
        for name, answer in self._ask(names, PREPARE, self._instruction(), "prepare"):
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(name, self._run, 0))
                included = dict(reply.included or {})
                if included.get("train", 0) <= 0:
                    raise UpdateError("no training case is left")
                if name in before and before[name]["included"] != included:
                    raise UpdateError("its cases changed since the run began: start a new run")
            except UpdateError as error:
                self._lose(name, error)
                continue
            del self.lost[name]
            self.sites.append(Registered(name, included))
            flow[name] = {"role": "training", "included": included, "excluded": dict(reply.excluded or {})}
            if reply.over_policy:
                log.warning("%s: more cases are left out than the site's policy allows", name)
                flow[name]["over_policy"] = True
        order = list(self.config.data.sites)
        self.sites.sort(key=lambda site: order.index(site.name))
        self.folder.write_flow(flow)

    def _need(self, able: int) -> None:
        """Stop when fewer than `min_sites` are able to take part."""
        if able < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in sorted(self.lost.items()))
            raise RunError(
                f"{able} of {len(self.config.data.sites)} sites can take part, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons})",
            )

    def _lose(self, name: str, error: UpdateError) -> None:
        log.warning("%s cannot take part: %s", name, error)
        self.lost[name] = SiteEntry("failed", str(error))

    def _watch_sites(self, phase: str) -> None:
        """Report how far the sites are with their studies, where their progress can be seen: in a simulation."""
        moments = [read_progress(site_progress_path(cache_root(), self._run, name)) for name in self.nodes]
        seen = [moment for moment in moments if moment is not None and moment.phase == phase]
        if phase and seen:
            done, total = sum(moment.done for moment in seen), sum(moment.total for moment in seen)
            self.on_progress(phase, done, total, f"{len(self.nodes)} sites")


def _raise_if_bad(answer: Answer) -> Reply:
    if isinstance(answer, UpdateError):
        raise answer
    return answer
