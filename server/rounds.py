"""The loop of a federation on Flower's `Grid`: train, average, validate; absent and bad sites do not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from flwr.serverapp import Grid

from server.averaging import OwnedAverage, owned_places
from server.exchange import Answer
from server.gate import Expected, check_sums, check_update, weighed_cases
from server.journal import NO_LABEL, RoundRecord, RunFolder, SiteEntry
from server.participants import Participants, Progress
from server.participation import Participation
from server.strategies import strategy_for
from shared.audited import record as note
from shared.config import RunConfig
from shared.config_sections import TaskName
from shared.errors import RunError
from shared.messages import EVALUATE, TRAIN, Reply
from shared.metrics.classification import ClassificationSums
from shared.payload import State, Sums, flat_hash, flatten, manifest_of, unflatten
from shared.preprocessing.plan import Plan
from shared.reproducibility import state_hash
from shared.tasks import Task, task_named
from shared.types import FloatArray

log = logging.getLogger(__name__)


class Federation:
    """A run's tasks trained and judged by its sites, round by round.

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
    on_committed
        Called with each round's record once it is committed.

    """

    def __init__(
        self,
        grid: Grid,
        config: RunConfig,
        folder: RunFolder,
        on_progress: Progress,
        on_committed: Callable[[RoundRecord], None] | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.on_progress = on_progress
        self.on_committed = on_committed
        self.participants = Participants(grid, config, folder, on_progress)
        self.participation = Participation(folder.path, config.data.sites)

    @property
    def plan(self) -> Plan | None:
        """The federation's plan, once there is one."""
        return self.participants.plan

    @property
    def lost(self) -> dict[str, SiteEntry]:
        """Sites that cannot take part now, and why."""
        return self.participants.lost

    def register(self) -> None:
        """Find and prepare the sites; see `Participants.register`."""
        self.participants.register()

    def train(self, name: TaskName) -> list[RoundRecord]:
        """Run a task's rounds that are not committed yet; return every round's record.

        Raises
        ------
        RunError
            Fewer than `min_sites` have the task's labels, or gave a good answer in a round; what was committed stays.
            Or the committed rounds were drawn with another seed.

        """
        view, task = self.config.for_task(name), task_named(name)
        self.participants.rejoin()
        able = [site.name for site in self.participants.sites if site.counts(task)[""] > 0]
        self.participants.need(len(able), f" in {name}, for which they need its labels")
        records = self.folder.records(name)
        model = task.build_model(view)
        strategy = strategy_for(view.federation)
        like = model.state_dict()
        if not records:
            start = RoundRecord(name, 0, state_hash(like), 0.0, seed=view.seed)
            self.folder.commit(start, like, {})
            records = [start]
        if records[-1].seed not in {None, view.seed}:
            raise RunError(
                f"round {records[-1].round} of {name} was drawn with seed {records[-1].seed}, and the run's "
                f"config.toml now has {view.seed}: put it back, or start a new run"
            )
        state = self.folder.model(records[-1])
        moments: Mapping[str, FloatArray] = self.folder.moments(records[-1])
        total = view.federation.rounds
        self.participation.rounds(name, records)
        for number in range(records[-1].round + 1, total + 1):
            started = time.perf_counter()
            if number > 1:
                self.participants.rejoin()
            self.on_progress("train", number - 1, total, f"{name}, round {number}: training")
            current = flatten(state)
            average, ledger = self._collect(task, number, current, like)
            weights, moments = strategy.step(current, average, number, moments)
            state = unflatten(weights, like)
            self.on_progress("train", number - 1, total, f"{name}, round {number}: validating")
            found, judged = self._judge(name, state, number, "validation")
            for site, sums in found.items():
                ledger[site].validation = sums.to_dict()
            record = RoundRecord(
                name, number, state_hash(state), time.perf_counter() - started, ledger, judged, seed=view.seed
            )
            self.folder.commit(record, state, moments)
            note(
                "round-committed",
                run=self.participants.run,
                task=name,
                round=number,
                model=record.model_hash,
                accepted=", ".join(site for site, entry in ledger.items() if entry.status == "accepted"),
            )
            records.append(record)
            self.participation.rounds(name, records)
            if self.on_committed is not None:
                self.on_committed(record)
            shown = _shown(record)
            log.info("%s, round %d of %d: %s, model %s", name, number, total, shown, record.model_hash[:12])
            self.on_progress("train", number, total, f"{name}, {shown}")
        return records

    def evaluate(self, record: RoundRecord, state: State) -> dict[str, Sums]:
        """Have the sites test a chosen round's model on their own cases; without any, or failing, they are left out."""
        found, ledger = self._judge(record.task, state, record.round, "test")
        self.participation.tested(record, ledger)
        return found

    def _judge(self, name: str, state: State, number: int, split: str) -> tuple[dict[str, Sums], dict[str, SiteEntry]]:
        """The sites' sums over a split of their cases, and what became of each site that has such cases."""
        cases = {site.name: site.included[split] for site in self.participants.sites if site.included[split] > 0}

        def check(site: str, reply: Reply) -> None:
            check_sums(reply, Expected(site, self.participants.run, number, cases=cases[site]))

        weights = flatten(state)
        instruction = replace(
            self.participants.instruction(number, name),
            split=split,
            weights=weights,
            manifest=manifest_of(state),
            model=flat_hash(weights),
        )
        found: dict[str, Sums] = {}
        ledger: dict[str, SiteEntry] = {}
        for site, answer in self.participants.ask(list(cases), EVALUATE, instruction, check):
            reply = answer.reply
            if reply is None or reply.sums is None:
                log.warning("%s is missing from the %s figures of round %d: %s", site, split, number, answer.reason)
                ledger[site] = _entry(answer)
                continue
            ledger[site] = replace(_entry(answer), cases=reply.sums.n)
            if reply.sums.n:
                found[site] = reply.sums
        return (
            {site: found[site] for site in cases if site in found},
            {site: ledger[site] for site in cases},
        )

    def _collect(
        self, task: Task, number: int, weights: FloatArray, like: State
    ) -> tuple[FloatArray, dict[str, SiteEntry]]:
        """One round's answers through the gate into the running average; returns it and the ledger."""
        manifest = manifest_of(like)
        counts = {site.name: site.counts(task) for site in self.participants.sites}
        expected = {
            site: Expected(
                site=site,
                run=self.participants.run,
                round=number,
                manifest=manifest,
                cases=found[""],
                values=len(weights),
                labels={label: count for label, count in found.items() if label},
            )
            for site, found in counts.items()
        }
        asked = [site for site, item in expected.items() if item.cases > 0]
        ledger = dict(self.lost) | {site: SiteEntry("absent", NO_LABEL, attempts=0) for site in expected}
        average = OwnedAverage(weights, owned_places(like, task.owner))

        def check(site: str, reply: Reply) -> None:
            check_update(reply, expected[site])
            weighed_cases(reply, expected[site], task.name)

        instruction = replace(
            self.participants.instruction(number, task.name),
            split="train",
            weights=weights,
            manifest=manifest,
            model=flat_hash(weights),
        )
        for site, answer in self.participants.ask(asked, TRAIN, instruction, check):
            ledger[site] = _entry(answer)
            reply = answer.reply
            if reply is None or reply.weights is None:
                log.warning("round %d, %s: %s", number, site, answer.reason)
                continue
            average.add(reply.weights, weighed_cases(reply, expected[site], task.name))
            ledger[site].loss = reply.loss
            if reply.skipped:
                log.warning("round %d, %s: %d cases were skipped", number, site, reply.skipped)
            del answer, reply  # before the next one is fetched
        good = sum(entry.status == "accepted" for entry in ledger.values())
        if good < self.config.federation.min_sites:
            reasons = "; ".join(f"{site}: {entry.reason}" for site, entry in ledger.items() if entry.reason)
            raise RunError(
                f"round {number} of {task.name} has {good} good answers, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons}); the last committed round is kept: mend and resume",
            )
        return average.mean(), {site: ledger[site] for site in self.config.data.sites}


def _entry(answer: Answer) -> SiteEntry:
    """A site's line in the ledger."""
    entry = SiteEntry(answer.status, answer.reason, attempts=answer.attempts)
    if answer.reply is not None:
        entry.cases, entry.skipped, entry.seconds = answer.reply.cases, answer.reply.skipped, answer.reply.seconds
    return entry


def _shown(record: RoundRecord) -> str:
    """A round's validation in a few words."""
    sums = record.validation()
    if sums.score is None:
        return "no validation cases"
    if not isinstance(sums, ClassificationSums):
        return f"validation Dice {sums.score:.3f}"
    areas = sums.separation()
    return f"validation log-loss {-sums.score:.3f}" + (f", mean AUC {areas[0]:.3f}" if areas else "")
