"""The loop of a federation on Flower's `Grid`: register, plan, prepare, rounds; absent and bad sites do not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.serverapp import Grid

from server.averaging import OwnedAverage, owned_places
from server.exchange import Answer, ask, find_sites
from server.gate import Expected, check_answer, check_update
from server.journal import RoundRecord, RunFolder, SiteEntry
from server.strategies import strategy_for
from shared.config import RunConfig
from shared.config_sections import TaskName
from shared.errors import RunError, UpdateError
from shared.messages import EVALUATE, FINGERPRINT, PREPARE, TRAIN, Instruction, Reply
from shared.metrics.classification import ClassificationSums
from shared.payload import State, Sums, flatten, label_key, manifest_of, unflatten
from shared.preprocessing.fingerprint import SiteFingerprint, make_plan
from shared.preprocessing.plan import Plan
from shared.progress import read_progress, site_progress_path
from shared.project import cache_root
from shared.reproducibility import state_hash
from shared.tasks import Task, task_named
from shared.types import FloatArray

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""Called with (phase, done, total, text)."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A site in the federation, its cases in each split, and its training cases of each task and label."""

    name: str
    included: Mapping[str, int]
    labelled: Mapping[str, int]

    def counts(self, task: Task) -> dict[str, int]:
        """Training cases by label that owns parameters; under "" those the task uses."""
        return {label: self.labelled.get(label_key(task.name, label), 0) for label in ("", *task.owners.values())}


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

    def train(self, name: TaskName) -> list[RoundRecord]:
        """Run a task's rounds that are not committed yet; return every round's record.

        Raises
        ------
        RunError
            Fewer than `min_sites` have the task's labels, or gave a good answer in a round; what was committed stays.

        """
        view, task = self.config.for_task(name), task_named(name)
        able = [site.name for site in self.sites if site.counts(task)[""] > 0]
        self._need(len(able), f" in {name}, for which they need its labels")
        records = self.folder.records(name)
        model = task.build_model(view)
        strategy = strategy_for(view.federation)
        like = model.state_dict()
        if not records:
            start = RoundRecord(name, 0, state_hash(like), 0.0)
            self.folder.commit(start, like, {})
            records = [start]
        state = self.folder.model(records[-1])
        moments: Mapping[str, FloatArray] = self.folder.moments(records[-1])
        total = view.federation.rounds
        for number in range(records[-1].round + 1, total + 1):
            started = time.perf_counter()
            self.on_progress("train", number - 1, total, f"{name}, round {number}: training")
            current = flatten(state)
            average, ledger = self._collect(task, number, current, like)
            weights, moments = strategy.step(current, average, number, moments)
            state = unflatten(weights, like)
            self.on_progress("train", number - 1, total, f"{name}, round {number}: validating")
            for site, sums in self.evaluate(name, state, number, "validation").items():
                ledger[site].validation = sums.to_dict()
            record = RoundRecord(name, number, state_hash(state), time.perf_counter() - started, ledger)
            self.folder.commit(record, state, moments)
            records.append(record)
            shown = _shown(record)
            log.info("%s, round %d of %d: %s, model %s", name, number, total, shown, record.model_hash[:12])
            self.on_progress("train", number, total, f"{name}, {shown}")
        return records

    def evaluate(self, name: TaskName, state: State, number: int, split: str) -> dict[str, Sums]:
        """Have the sites evaluate a task's model on their own cases; sites without any, or failing, are left out."""
        weights, manifest = flatten(state), manifest_of(state)
        asked = [site.name for site in self.sites if site.included[split] > 0]
        found: dict[str, Sums] = {}
        instruction = replace(self._instruction(number, name), split=split, weights=weights, manifest=manifest)
        for site, answer in self._ask(asked, EVALUATE, instruction):
            try:
                reply = _raise_if_bad(answer)
                check_answer(reply, Expected(site, self._run, number))
                if reply.sums is None:
                    raise UpdateError("the answer holds no sums")
            except UpdateError as error:
                log.warning("%s is missing from the %s figures of round %d: %s", site, split, number, error)
                continue
            if reply.sums.n:
                found[site] = reply.sums
        return {site: found[site] for site in asked if site in found}

    @property
    def _run(self) -> str:
        return self.folder.path.name

    def _instruction(self, number: int = 0, task: str = "") -> Instruction:
        return Instruction(self._run, number, self.plan, config=self.config, task=task)

    def _ask(
        self, names: Sequence[str], kind: str, instruction: Instruction, phase: str = ""
    ) -> Iterator[tuple[str, Answer]]:
        """Ask sites the same; while they work on `phase`, report how far they are."""
        nodes = {name: self.nodes[name] for name in names}
        return ask(self.grid, nodes, instruction, kind, self.config, lambda: self._watch_sites(phase))

    def _collect(
        self, task: Task, number: int, weights: FloatArray, like: State
    ) -> tuple[FloatArray, dict[str, SiteEntry]]:
        """One round's answers through the gate into the running average; returns it and the ledger."""
        counts = {site.name: site.counts(task) for site in self.sites}
        asked = [site for site, found in counts.items() if found[""] > 0]
        ledger = dict(self.lost)
        ledger |= {site: SiteEntry("absent", "has no label of this task") for site in counts}
        ledger |= {site: SiteEntry("absent", "no answer before the deadline") for site in asked}
        average = OwnedAverage(weights, owned_places(like, task.owner))
        manifest = manifest_of(like)
        instruction = replace(self._instruction(number, task.name), split="train", weights=weights, manifest=manifest)
        for site, answer in self._ask(asked, TRAIN, instruction):
            try:
                reply = _raise_if_bad(answer)
                check_update(reply, Expected(site, self._run, number, manifest, counts[site][""], len(weights)))
            except UpdateError as error:
                failed = isinstance(answer, Reply) and bool(answer.error)
                ledger[site] = SiteEntry("failed" if failed else "refused", str(error))
                log.warning("round %d, %s: %s", number, site, error)
                continue
            assert reply.weights is not None  # noqa: S101 - the gate saw it
            average.add(reply.weights, counts[site])
            ledger[site] = SiteEntry("accepted", "", reply.cases, reply.seconds, reply.loss)
        good = sum(entry.status == "accepted" for entry in ledger.values())
        if good < self.config.federation.min_sites:
            reasons = "; ".join(f"{site}: {entry.reason}" for site, entry in ledger.items() if entry.reason)
            raise RunError(
                f"round {number} of {task.name} has {good} good answers, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons}); the last committed round is kept: mend and resume",
            )
        return average.mean(), {site: ledger[site] for site in self.config.data.sites}

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
            self.sites.append(Registered(name, included, dict(reply.labelled or {})))
            flow[name] = {
                "role": "training",
                "included": included,
                "excluded": dict(reply.excluded or {}),
                "classes": dict(reply.classes or {}),
            }
            if reply.over_policy:
                log.warning("%s: more cases are left out than the site's policy allows", name)
                flow[name]["over_policy"] = True
        order = list(self.config.data.sites)
        self.sites.sort(key=lambda site: order.index(site.name))
        self.folder.write_flow(flow)

    def _need(self, able: int, where: str = "") -> None:
        """Stop when fewer than `min_sites` are able to take part."""
        if able < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in sorted(self.lost.items()))
            raise RunError(
                f"{able} of {len(self.config.data.sites)} sites can take part{where}, federation.min_sites is "
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


def _shown(record: RoundRecord) -> str:
    """A round's validation in a few words."""
    sums = record.validation()
    if sums.score is None:
        return "no validation cases"
    if not isinstance(sums, ClassificationSums):
        return f"validation Dice {sums.score:.3f}"
    areas = sums.separation()
    return f"validation log-loss {-sums.score:.3f}" + (f", mean AUC {areas[0]:.3f}" if areas else "")


def _raise_if_bad(answer: Answer) -> Reply:
    if isinstance(answer, UpdateError):
        raise answer
    return answer
