"""What a round asks of the sites: an update from each, what their cases say of a model, and what became of each site.

A round's model is judged by the question that sends it to be trained further: a network carries it once for both.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from server.federation.averaging import OwnedAverage, owned_places
from server.federation.participants import Participants
from server.federation.site_requests import Answer
from server.federation.update_checks import Expected, check_sums, check_update, weighed_cases
from server.run_folder.round_record import NO_LABEL, SiteEntry
from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.instruction_reply import EVALUATE, TRAIN, Reply
from shared.messages.payload import State, flatten, manifest_of
from shared.metrics.sums import Sums
from shared.tasks import task_named
from shared.tasks.task import Task
from shared.types import FloatArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The sites' sums over a split of their cases, and what became of each site that has such cases."""

    sums: dict[str, Sums]
    sites: dict[str, SiteEntry]


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a round.

    Attributes
    ----------
    average
        The mean of the good updates; None where they are fewer than `min_sites`.
    sites
        The round's ledger.
    judgement
        Of the model that was sent, where it was asked for.

    """

    average: FloatArray | None
    sites: dict[str, SiteEntry]
    judgement: Judgement | None


class RoundQuestions:
    """The questions of a run's rounds.

    Parameters
    ----------
    participants
        The sites.
    config
        The run's configuration.

    """

    def __init__(self, participants: Participants, config: RunConfig) -> None:
        self.participants = participants
        self.config = config

    def train(self, task: Task, number: int, state: State, *, judging: bool) -> Trained:
        """Ask for a round's updates; the answers go through the gate into the running average.

        Parameters
        ----------
        task, number
            What is trained, and in which round.
        state
            The model to train.
        judging
            Whether the sites judge it as well. One whose answer holds no good judging is asked for that alone; one that
            is gone, or was waited for until the deadline, is not.

        """
        weights, manifest = flatten(state), manifest_of(state)
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
        to_judge = self._judges(number, "validation") if judging else {}
        ledger = {site: replace(entry) for site, entry in self.participants.lost.items()}
        ledger |= {site: SiteEntry("absent", NO_LABEL, attempts=0) for site in expected}
        average = OwnedAverage(weights, owned_places(state, task.learner.owner))
        judged = Judgement({}, {})

        def check(site: str, reply: Reply) -> None:
            check_update(reply, expected[site])
            weighed_cases(reply, expected[site], task.name)

        instruction = replace(
            self.participants.instruction(number, task.name),
            split="train",
            weights=weights,
            manifest=manifest,
            evaluating=judging,
        )
        for site, answer in self.participants.ask(asked, TRAIN, instruction, check):
            ledger[site] = _entry(answer)
            reply = answer.reply
            if reply is None or reply.weights is None:
                log.warning("round %d, %s: %s", number, site, answer.reason)
                if site in to_judge and (answer.waited or answer.status == "absent"):
                    judged.sites[site] = _entry(answer)
                continue
            average.add(reply.weights, weighed_cases(reply, expected[site], task.name))
            ledger[site].loss = reply.loss
            if reply.skipped:
                log.warning("round %d, %s: %d cases were skipped", number, site, reply.skipped)
            if site in to_judge:
                _take_along(judged, replace(answer, reply=reply.judgement()), to_judge[site], task)
            del answer, reply  # before the next one is fetched
        good = sum(entry.status == "accepted" for entry in ledger.values())
        mean = average.mean() if good >= max(1, self.config.federation.min_sites) else None
        del average
        if others := to_judge.keys() - judged.sites.keys():
            alone = self.judge(task.name, state, number - 1, "validation", others)
            judged = Judgement(judged.sums | alone.sums, judged.sites | alone.sites)
        return Trained(
            mean,
            {site: ledger[site] for site in self.config.data.sites},
            _ordered(judged, to_judge) if judging else None,
        )

    def judge(
        self, name: str, state: State, number: int, split: str, sites: Collection[str] | None = None
    ) -> Judgement:
        """Have a round's model judged alone on a split, by all sites that have such cases or by some of them."""
        to_judge = self._judges(number, split)
        if sites is not None:
            to_judge = {site: item for site, item in to_judge.items() if site in sites}

        def check(site: str, reply: Reply) -> None:
            check_sums(reply, to_judge[site], task_named(name))

        instruction = replace(
            self.participants.instruction(number, name),
            split=split,
            weights=flatten(state),
            manifest=manifest_of(state),
        )
        judged = Judgement({}, {})
        for site, answer in self.participants.ask(list(to_judge), EVALUATE, instruction, check):
            if answer.reply is None:
                log.warning("%s is missing from the %s figures of round %d: %s", site, split, number, answer.reason)
            _take(judged, site, answer)
        return _ordered(judged, to_judge)

    def _judges(self, number: int, split: str) -> dict[str, Expected]:
        """What is expected of each site that has cases of a split."""
        return {
            site.name: Expected(site.name, self.participants.run, number, cases=site.included[split])
            for site in self.participants.sites
            if site.included[split] > 0
        }


def _take_along(judged: Judgement, answer: Answer, expected: Expected, task: Task) -> None:
    """Enter the judging that came with a good update, if it is good itself."""
    assert answer.reply is not None  # noqa: S101 - it came with an update
    try:
        check_sums(answer.reply, expected, task)
    except UpdateError as error:
        log.warning("%s judged nothing in passing and is asked alone: %s", expected.site, error)
    else:
        _take(judged, expected.site, answer)


def _take(judged: Judgement, site: str, answer: Answer) -> None:
    """Enter a site's answer into a judgement."""
    judged.sites[site] = _entry(answer)
    sums = answer.reply.sums if answer.reply is not None else None
    if sums is not None:
        judged.sites[site].cases = sums.n
        if sums.n:
            judged.sums[site] = sums


def _ordered(judged: Judgement, sites: Collection[str]) -> Judgement:
    """A judgement in the order of the sites: whoever answered first, the same bytes."""
    return Judgement(
        {site: judged.sums[site] for site in sites if site in judged.sums},
        {site: judged.sites[site] for site in sites},
    )


def _entry(answer: Answer) -> SiteEntry:
    """A site's line in the ledger."""
    entry = SiteEntry(answer.status, answer.reason, attempts=answer.attempts)
    if answer.reply is not None:
        entry.cases, entry.skipped, entry.seconds = answer.reply.cases, answer.reply.skipped, answer.reply.seconds
    return entry
