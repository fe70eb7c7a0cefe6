"""The loop of a federation on Flower's `Grid`: train, average, commit; absent and bad sites do not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from flwr.serverapp import Grid

from server.federation.participants import Participants, Progress
from server.federation.readiness import check_tasks
from server.federation.round_requests import Evaluation, RoundRequests
from server.federation.server_step import parameter_places, server_step
from server.federation.update_reach import Reach, parts_of
from server.run_folder.journal import RunFolder
from server.run_folder.participation import Participation
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.messages.payload import State, flatten, unflatten
from shared.metrics.sums import Sums
from shared.modalities.modality import Plan
from shared.reproducibility import state_hash
from shared.runtime.audit_log import record as note
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)


class Federation:
    """A run's tasks, trained and evaluated by its sites, round by round.

    `grid` is Flower's, or the in-process one of `server.studies.in_process_grid`; the folder's name is the run's.
    `on_evaluated` is called with each round's record once the sites have evaluated its model: during the next round,
    and after the last. With that of a round that nobody evaluates it is called at once.
    """

    def __init__(
        self,
        grid: Grid,
        config: RunConfig,
        folder: RunFolder,
        on_progress: Progress,
        on_evaluated: Callable[[RoundRecord], None] | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.on_progress = on_progress
        self.on_evaluated = on_evaluated
        self.participants = Participants(grid, config, folder, on_progress)
        self.requests = RoundRequests(self.participants)
        self.participation = Participation(folder.path, config.data.sites)

    @property
    def plans(self) -> dict[str, Plan]:
        """The federation's plan of each modality, once there are any."""
        return self.participants.plans

    @property
    def lost(self) -> dict[str, SiteEntry]:
        """Sites that cannot take part now, and why."""
        return self.participants.lost

    def register(self) -> None:
        """Find and prepare the sites."""
        self.find()
        self.prepare()

    def find(self, further: Collection[str] = ()) -> None:
        """Find the sites, and the nodes of `further` centres; raises as `check_tasks` by what the sites tell."""
        self.participants.find(further)
        there = [name for name in self.config.data.sites if name in self.participants.nodes]
        facts = self.participants.facts
        told = {name: facts[name].labelled if name in facts else {} for name in there}
        check_tasks(self.participants, self._unfinished(), told)

    def prepare(self) -> None:
        """Prepare the sites, see `Participants.prepare`; raises as `check_tasks` by what they prepared."""
        self.participants.prepare()
        self._check(self._unfinished())

    def _check(self, tasks: Iterable[str]) -> None:
        none, sites = dict.fromkeys(self.config.tasks, 0), self.participants.sites
        check_tasks(self.participants, tasks, {site.name: none | dict(site.labelled) for site in sites})

    def _unfinished(self) -> list[str]:
        """Tasks with rounds to come."""
        rounds = {name: len(self.folder.records(name)) - 1 for name in self.config.tasks}
        return [name for name in rounds if rounds[name] < self.config.for_task(name).federation.rounds]

    def train(self, task: Task) -> list[RoundRecord]:
        """Run a task's rounds that are not committed yet; return every round's record.

        `RunError` where fewer than `min_sites` have the task's labels or gave a good answer in a round (what was
        committed stays), or where the committed rounds were drawn with another seed.
        """
        name, view = task.name, self.config.for_task(task.name)
        records = self.folder.records(name)
        self._remember(records)
        self.participants.rejoin()
        self._check({name} & set(self._unfinished()))
        model = task.learner.build_model(view)
        like, parameters, parts = model.state_dict(), parameter_places(model), parts_of(model)
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
        strategy, own = view.federation.algorithm, self.folder.strategy_state(records[-1])
        total = view.federation.rounds
        self.participation.rounds(name, records)
        for number in range(records[-1].round + 1, total + 1):
            started = time.perf_counter()
            if number > 1:
                self.participants.rejoin()
            self.on_progress("train", number - 1, total, f"{name}, round {number}: training{_so_far(records)}")
            within = Reach.of(flatten(state), parts, view, number)
            evaluating = view.federation.evaluates(number - 1) and records[-1].is_unevaluated()
            trained = self.requests.train(task, number, state, within, evaluating=evaluating, records=records)
            if trained.evaluation is not None:
                self._enter(records, trained.evaluation)
            if trained.average is None:
                raise RunError(self._too_few(name, number, trained.sites))
            if trained.evaluation is not None:
                self._tell(records[-1], total)
            weights, own = server_step(strategy, parameters, within.start, trained.average, number, own)
            state = unflatten(weights, like)
            seconds = time.perf_counter() - started
            record = RoundRecord(name, number, state_hash(state), seconds, trained.sites, seed=view.seed)
            self.folder.commit(record, state, own)
            self.participants.absences.take(trained.sites)
            note(
                "round-committed",
                run=self.participants.run,
                task=name,
                round=number,
                model=record.model_hash,
                accepted=", ".join(site for site, entry in trained.sites.items() if entry.status == "accepted"),
            )
            records.append(record)
            self.participation.rounds(name, records)
            if not view.federation.evaluates(number):
                self._tell(record, total)
        if records[-1].is_unevaluated():
            self.on_progress("train", total, total, f"{name}, round {records[-1].round}: validating")
            started = time.perf_counter()
            evaluation = self.requests.evaluate(name, state, records[-1].round, "validation")
            records[-1].seconds += time.perf_counter() - started
            self.participants.absences.take(evaluation.sites)
            self._enter(records, evaluation)
            self._tell(records[-1], total)
        return records

    def evaluate(self, record: RoundRecord, state: State) -> dict[str, Sums]:
        """Have the sites test a chosen round's model on their own cases; without any, or failing, they are left out."""
        tested = self.requests.evaluate(record.task, state, record.round, "test")
        self.participants.absences.take(tested.sites)
        self.participation.tested(record, tested.sites)
        return tested.sums

    def _remember(self, records: Sequence[RoundRecord]) -> None:
        """Take who kept the others waiting in the rounds that were committed before this run was resumed."""
        for record in records:
            self.participants.absences.take(record.sites)
        if records and not records[-1].is_unevaluated():
            self.participants.absences.take(records[-1].evaluated)

    def _enter(self, records: list[RoundRecord], evaluation: Evaluation) -> None:
        """Enter what the sites say of the last round's model into its record; what one said before is kept."""
        record = records[-1]
        before = {site: entry for site, entry in record.evaluated.items() if entry.status == "accepted"}
        record.evaluated = evaluation.sites | before
        for site, sums in evaluation.sums.items():
            record.sites[site].validation = sums.to_flat()
        self.folder.enter(record)
        self.participation.rounds(record.task, records)

    def _tell(self, record: RoundRecord, total: int) -> None:
        """Tell of a round: once its model was evaluated, or at once where nobody is to evaluate it."""
        if self.on_evaluated is not None:
            self.on_evaluated(record)
        shown = _shown(record)
        log.info("%s, round %d of %d: %s, model %s", record.task, record.round, total, shown, record.model_hash[:12])
        self.on_progress("train", record.round, total, f"{record.task}, {shown}")

    def _too_few(self, name: str, number: int, sites: Mapping[str, SiteEntry]) -> str:
        """Why a round came to nothing."""
        good = sum(entry.status == "accepted" for entry in sites.values())
        reasons = "; ".join(f"{site}: {entry.reason}" for site, entry in sites.items() if entry.reason)
        return (
            f"round {number} of {name} has {good} good answers, federation.min_sites is "
            f"{self.config.federation.min_sites} ({reasons}); the last committed round is kept: mend and resume"
        )


def _so_far(records: Sequence[RoundRecord]) -> str:
    """What is known of the last round whose model was evaluated, in brackets."""
    known = [item for item in records if item.evaluated]
    return f" (round {known[-1].round}: {_shown(known[-1])})" if known else ""


def _shown(record: RoundRecord) -> str:
    """A round's validation in a few words."""
    choice = task_named(record.task).choice
    score = choice.of(record.validation())
    if not record.evaluated:
        return "not evaluated"
    return "no validation cases" if score is None else f"validation {choice.title} {score:.3f}"
