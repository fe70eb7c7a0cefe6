"""What a round asks of the sites: an update of each, and what their cases say of a model.

A round's model is evaluated by the request that sends it to be trained further: a network carries it once for both.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from server.federation.absences import LEFT_OUT, left_out_entry
from server.federation.averaging import AT_SITE, RunningAverage, owned_parts
from server.federation.participants import Participants
from server.federation.site_requests import Answer
from server.federation.update_checks import Expected, check_sums, check_update, weighed_cases
from server.federation.update_copies import Originals
from server.federation.update_reach import Reach
from server.run_folder.round_record import NO_LABEL, RoundRecord, SiteEntry
from shared.errors import UpdateError
from shared.messages.instruction_reply import EVALUATE, TRAIN, Reply
from shared.messages.payload import State, flatten, manifest_of
from shared.metrics.sums import Sums
from shared.tasks import task_named
from shared.tasks.task import Task
from shared.types import FloatArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The sites' sums over a split of their cases, and what became of each site that has such cases."""

    sums: dict[str, Sums]
    sites: dict[str, SiteEntry]


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What came of a round.

    Attributes
    ----------
    average
        The mean of the good updates; None where they are fewer than `min_sites`.
    sites
        The round's ledger.
    evaluation
        Of the model that was sent, where it was asked for.

    """

    average: FloatArray | None
    sites: dict[str, SiteEntry]
    evaluation: Evaluation | None


class RoundRequests:
    """The requests of a run's rounds to its sites."""

    def __init__(self, participants: Participants) -> None:
        self.participants = participants
        self.config = participants.config

    def train(
        self,
        task: Task,
        number: int,
        state: State,
        within: Reach,
        *,
        evaluating: bool,
        records: Sequence[RoundRecord] = (),
    ) -> RoundResult:
        """Ask for a round's updates; good answers go into the running average.

        Parameters
        ----------
        task, number
            What is trained, and in which round.
        state
            The model to train.
        within
            What an update of this model can be.
        evaluating
            Whether the sites evaluate it as well. One whose answer holds no good evaluation is asked for that alone;
            one that is gone, or was waited for until the deadline, is not.
        records
            The task's rounds so far.

        """
        weights, manifest = within.start, manifest_of(state)
        counts = {site.name: site.counts(task) for site in self.participants.sites}
        expected = {
            site: Expected(
                site=site,
                run=self.participants.run,
                round=number,
                manifest=manifest,
                cases=known[""],
                reach=within,
                labels={label: count for label, count in known.items() if label},
            )
            for site, known in counts.items()
        }
        left_out = self._left_out([site for site, item in expected.items() if item.cases > 0])
        asked = [site for site, item in expected.items() if item.cases > 0 and site not in left_out]
        evaluators = self._expected_evaluators(number, "validation") if evaluating else {}
        lost = self.participants.lost
        ledger = {site: replace(entry) for site, entry in lost.items()}
        lost |= {site: replace(entry, held_up=False) for site, entry in lost.items()}  # told once, in this round
        ledger |= {site: SiteEntry("absent", NO_LABEL, attempts=0) for site in expected}
        ledger |= {site: left_out_entry() for site in left_out}
        stays, owner = self.config.federation.algorithm.stays_at_site, task.learner.owner
        average = RunningAverage(weights, owned_parts(state, lambda name: AT_SITE if stays(name) else owner(name)))
        evaluation = Evaluation({}, {site: left_out_entry() for site in evaluators if site in left_out})

        originals = Originals(average, weights, records)

        def take(site: str, reply: Reply) -> None:
            check_update(reply, expected[site])
            assert reply.weights is not None  # noqa: S101 - checked
            originals.add(site, reply.weights, weighed_cases(reply, expected[site], task.name))

        instruction = replace(
            self.participants.instruction(number, task.name),
            split="train",
            weights=weights,
            manifest=manifest,
            evaluating=evaluating,
        )
        for site, answer in self.participants.requests.ask(asked, TRAIN, instruction, take):
            ledger[site] = answer.entry
            reply = answer.reply
            if reply is None:
                log.warning("round %d, %s: %s", number, site, answer.reason)
                if site in evaluators and (answer.waited or answer.status == "absent"):
                    evaluation.sites[site] = answer.entry
                continue
            ledger[site].loss = reply.loss
            if reply.skipped:
                log.warning("round %d, %s: %d cases were skipped", number, site, reply.skipped)
            if site in evaluators:
                _take_evaluation(evaluation, replace(answer, reply=reply.evaluation()), evaluators[site], task)
            del answer, reply  # before the next one is fetched
        originals.enter(ledger)
        good = sum(entry.status == "accepted" for entry in ledger.values())
        mean = average.mean() if good >= max(1, self.config.federation.min_sites) else None
        if others := evaluators.keys() - evaluation.sites.keys():
            alone = self.evaluate(task.name, state, number - 1, "validation", others)
            evaluation = Evaluation(evaluation.sums | alone.sums, evaluation.sites | alone.sites)
        return RoundResult(
            mean,
            {site: ledger[site] for site in self.config.data.sites},
            _ordered(evaluation, evaluators) if evaluating else None,
        )

    def evaluate(
        self, name: str, state: State, number: int, split: str, sites: Collection[str] | None = None
    ) -> Evaluation:
        """Have a round's model evaluated alone on a split, by all sites that have such cases or by some of them."""
        evaluators = self._expected_evaluators(number, split)
        if sites is not None:
            evaluators = {site: item for site, item in evaluators.items() if site in sites}

        def check(site: str, reply: Reply) -> None:
            check_sums(reply, evaluators[site], task_named(name))

        instruction = replace(
            self.participants.instruction(number, name),
            split=split,
            weights=flatten(state),
            manifest=manifest_of(state),
        )
        left_out = self._left_out(evaluators) if sites is None else set()
        evaluation = Evaluation({}, {site: left_out_entry() for site in left_out})
        asked = [site for site in evaluators if site not in left_out]
        for site, answer in self.participants.requests.ask(asked, EVALUATE, instruction, check):
            if answer.reply is None:
                log.warning("%s is missing from the %s figures of round %d: %s", site, split, number, answer.reason)
            _take(evaluation, site, answer)
        return _ordered(evaluation, evaluators)

    def _left_out(self, sites: Collection[str]) -> set[str]:
        """Sites that are not asked now; none where the others would be too few."""
        left_out = {site for site in sites if self.participants.absences.left_out(site)}
        if len(sites) - len(left_out) < self.config.federation.min_sites:
            return set()
        for site in left_out:
            self.participants.states.change({site: ("absent", LEFT_OUT)})
        return left_out

    def _expected_evaluators(self, number: int, split: str) -> dict[str, Expected]:
        """What is expected of each site that has cases of a split."""
        return {
            site.name: Expected(site.name, self.participants.run, number, cases=site.included[split])
            for site in self.participants.sites
            if site.included[split] > 0
        }


def _take_evaluation(evaluation: Evaluation, answer: Answer, expected: Expected, task: Task) -> None:
    """Enter the evaluation that came with a good update, if it is good itself."""
    assert answer.reply is not None  # noqa: S101 - it came with an update
    try:
        check_sums(answer.reply, expected, task)
    except UpdateError as error:
        log.warning("%s sent no good evaluation with its update and is asked alone: %s", expected.site, error)
    else:
        _take(evaluation, expected.site, answer)


def _take(evaluation: Evaluation, site: str, answer: Answer) -> None:
    """Enter a site's answer into an evaluation."""
    evaluation.sites[site] = answer.entry
    sums = answer.reply.sums if answer.reply is not None else None
    if sums is not None:
        evaluation.sites[site].cases = sums.n
        if sums.n:
            evaluation.sums[site] = sums


def _ordered(evaluation: Evaluation, sites: Collection[str]) -> Evaluation:
    """An evaluation in the order of the sites: whoever answered first, the same bytes."""
    return Evaluation(
        {site: evaluation.sums[site] for site in sites if site in evaluation.sums},
        {site: evaluation.sites[site] for site in sites},
    )
