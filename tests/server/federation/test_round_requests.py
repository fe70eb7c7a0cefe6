"""What a round asks of its sites: the evaluation in passing, and the one that is asked for alone."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import MetricRecord

from server.federation.averaging import RunningAverage
from server.federation.participants import Participants
from server.federation.round_requests import RoundRequests
from server.federation.update_copies import update_hash
from server.federation.update_reach import Reach, parts_of
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import NO_LABEL, RoundRecord
from server.studies.in_process_grid import InProcessGrid
from shared.messages.payload import flatten
from shared.messages.records import read_instruction
from shared.tasks import task_named
from shared.training import learning_rate
from tests.end_to_end.tiny_sites import SUMS, TASK, site
from tests.server.federation.test_rounds import config

LESIONS = task_named(TASK)


class Asked:
    """Requests to three sites whose answers a test may change; what was asked, by site."""

    def __init__(self, tmp_path, change=lambda _kind, _name, numbers: numbers, order=lambda ids: ids):
        self.seen = []
        settings = config(retries=0)
        self.folder = RunFolder.create(tmp_path / "one", settings)
        self.participants = Participants(
            InProcessGrid(self._client, {}, 3, order), settings, self.folder, lambda *_: None
        )
        self.change = lambda _kind, _name, numbers: numbers
        self.participants.register()
        self.change = change
        self.seen.clear()
        self.requests = RoundRequests(self.participants)
        self.view = settings.for_task(TASK)
        self.model = LESIONS.learner.build_model(self.view)
        self.state = self.model.state_dict()

    def _client(self, message, context):
        item = read_instruction(message)
        self.seen.append((message.metadata.message_type, item.site, item.split, item.round))
        answer = site(message, context)
        numbers = self.change(message.metadata.message_type, item.site, dict(answer.content["numbers"]))
        answer.content["numbers"] = MetricRecord(numbers)
        return answer

    def train(self, number=2, *, evaluating=True, records=()):
        within = Reach.of(flatten(self.state), parts_of(self.model), self.view, number)
        return self.requests.train(LESIONS, number, self.state, within, evaluating=evaluating, records=records)


@pytest.fixture
def asked(tmp_path):
    made = []

    def make(**options):
        made.append(Asked(tmp_path, **options))
        return made[-1]

    yield make
    for item in made:
        item.folder.release()


def test_updates_and_evaluations_come_in_one_exchange_in_the_order_of_the_sites(asked):
    run = asked(order=lambda ids: ids[::-1])
    result = run.train()
    assert result.average is not None
    assert list(result.sites) == ["site-0", "site-1", "site-2"]
    assert [entry.status for entry in result.sites.values()] == ["accepted"] * 3
    assert {entry.loss for entry in result.sites.values()} == {0.5}
    assert list(result.evaluation.sums) == ["site-0", "site-1", "site-2"]
    assert all(item == SUMS for item in result.evaluation.sums.values())
    assert {kind for kind, *_ in run.seen} == {"train"}
    assert run.train(evaluating=False).evaluation is None


def spoiled(kind, name, numbers):
    """One site's figures cannot be."""
    wrong = kind == "train" and name == "site-1"
    return numbers | ({"sums.dice.total": 99.0, "sums.dice.squares": 9801.0} if wrong else {})


def test_figures_that_cannot_be_cost_no_update_and_are_asked_for_alone(asked, caplog):
    run = asked(change=spoiled)
    result = run.train()
    assert result.sites["site-1"].status == "accepted"
    assert [item for item in run.seen if item[0] == "evaluate"] == [("evaluate", "site-1", "validation", 1)]
    assert result.evaluation.sums["site-1"] == SUMS
    assert "'dice' cannot be 99.0 over 1 cases" in caplog.text


def test_an_update_of_other_cases_is_refused_and_the_evaluation_is_asked_for_alone(asked):
    run = asked(
        change=lambda kind, name, numbers: numbers | ({"cases": 9} if (kind, name) == ("train", "site-0") else {})
    )
    result = run.train()
    assert result.sites["site-0"].status == "refused"
    assert "claims 9 cases, 2 were registered" in result.sites["site-0"].reason
    assert result.evaluation.sites["site-0"].status == "accepted"


def test_a_site_without_the_tasks_label_is_not_asked_to_train_and_still_evaluates(asked):
    run = asked()
    sites = run.participants.sites
    run.participants.sites = [replace(sites[0], labelled={}), *sites[1:]]
    result = run.train()
    assert (result.sites["site-0"].status, result.sites["site-0"].reason) == ("absent", NO_LABEL)
    assert ("train", "site-0", "train", 2) not in run.seen
    assert result.evaluation.sums["site-0"] == SUMS


def test_sites_without_cases_of_a_split_are_not_asked(asked):
    run = asked()
    found = run.requests.evaluate(TASK, run.state, 1, "test")
    assert (found.sums, found.sites, run.seen) == ({}, {}, [])
    run.participants.sites = [replace(item, included={**item.included, "test": 1}) for item in run.participants.sites]
    assert set(run.requests.evaluate(TASK, run.state, 1, "test", {"site-2"}).sums) == {"site-2"}
    assert run.seen == [("evaluate", "site-2", "test", 1)]


@pytest.fixture
def copied(monkeypatch):
    """Sites whose weights are those of the node that the table names, where it names one."""
    table, honest = {}, site

    def client(message, context):
        if message.metadata.message_type == "train":
            context = SimpleNamespace(node_id=table.get(context.node_id, context.node_id))
        return honest(message, context)

    monkeypatch.setattr(sys.modules[__name__], "site", client)
    return table


@pytest.mark.parametrize("order", [lambda ids: ids, lambda ids: ids[::-1]])
def test_another_sites_update_costs_both_the_round_and_leaves_no_trace_in_the_average(asked, copied, order):
    copied |= {1: 3}
    run = asked(order=order)
    result = run.train()
    first, second, third = result.sites.values()
    assert (first.status, second.status, third.status) == ("refused", "accepted", "refused")
    assert first.reason == "its update is that of site-2 to the last bit: one copied the other's, and neither counts"
    assert "of site-0" in third.reason
    assert (first.update_hash, first.cases, third.update_hash) == ("", 0, "")
    rate = learning_rate(run.view, run.view.training.steps_per_round)
    only = flatten(run.state) + np.float32(rate / 40 * 2)
    alone = RunningAverage(flatten(run.state))
    alone.add(only, {"": 2})
    assert result.average.tobytes() == alone.mean().tobytes()
    assert second.update_hash == update_hash(only)
    assert list(result.evaluation.sums) == ["site-0", "site-1", "site-2"]  # which no copy is needed for


def test_the_model_sent_back_and_an_update_of_an_earlier_round_are_refused(asked, copied):
    run = asked()
    earlier = RoundRecord(TASK, 1, "", 0.0, run.train(1).sites)
    copied |= {1: 0}
    again = run.train(1, records=[earlier]).sites
    assert again["site-0"].reason == "sends the model that was sent, to the last bit: it did not train"
    assert again["site-1"].reason.startswith("sends the update of site-1 in round 1, to the last bit")
    assert {item.status for item in again.values()} == {"refused"}
