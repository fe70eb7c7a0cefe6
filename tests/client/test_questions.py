"""Weights, plans and numbers of questions of a server's choice: what they tell of a hospital's patients, measured."""

import math
from itertools import pairwise

import numpy as np
import pytest

from client.policy import hospital_of
from shared.policy import Policy
from tests.shared.modalities.test_toy_modality import MODALITY
from tests.shared.modalities.toy_modality import toy_task

pytestmark = pytest.mark.usefixtures("flower_task")

SHARES = {"validation": 0.3, "test": 0.2}
PIXEL, GAIN, OVERFLOW = 7, 4e4, 3.4028235e38 ** (1 / 9)


@pytest.fixture
def deep(monkeypatch):
    """A network that can overflow as deep ones do: beyond `OVERFLOW` its answer is no number."""

    def forward(self, views):
        logit = self.linear(views.flatten(1) - 1.0)
        power = logit**9
        return [logit + (power - power.detach())]

    monkeypatch.setattr(toy_task.ToyModel, "forward", forward)


def above(value):
    """Weights with which the network overflows exactly if a case's pixel exceeds a value."""
    weights = np.zeros(51, np.float32)  # the bias first
    weights[1 + PIXEL], weights[0] = GAIN, OVERFLOW - GAIN * (value - 1.0)
    return weights


def pixels(server, split):
    """What the attack is after: the pixel of each patient, largest first."""
    plan = toy_task.ToyPlan(side=5, level=1200.0)
    cases = server.site(splits=SHARES).prepared(MODALITY, plan)[split]
    return sorted((float(case.image.flat[PIXEL]) for case in cases), reverse=True)


@pytest.mark.usefixtures("deep")
def test_weights_that_overflow_at_one_patients_pixel_are_answered_as_if_they_did_not(attacker):
    server = attacker()
    assert server.ask("prepare", splits=SHARES).included["validation"] == 18
    largest = pixels(server, "validation")
    between = [largest[0] + 0.01, *(sum(pair) / 2 for pair in pairwise(largest[:5]))]
    answers = [server.ask("evaluate", weights=above(value), splits=SHARES) for value in between]
    assert [reply.error for reply in answers] == [""] * 5
    assert all(reply.sums == answers[0].sums for reply in answers)  # nobody, or up to four patients
    many = server.ask("evaluate", weights=above(largest[8]), splits=SHARES)
    assert many.error == ""
    assert many.sums != answers[0].sums  # it is a figure, of eight patients


@pytest.mark.usefixtures("deep")
def test_training_that_diverges_is_told_in_one_sentence_whenever_and_costs_its_question(attacker, tmp_path):
    server = attacker()
    server.ask("prepare", splits=SHARES)
    seen = pixels(server, "train")
    errors = {server.ask("train", weights=above(value), splits=SHARES).error for value in (seen[15], seen[-1] - 0.1)}
    assert len(errors) == 1
    assert "training diverged, the loss is not a number: lower learning_rate" in errors.pop()
    log = (tmp_path / "cache" / "logs" / "north.jsonl").read_text()
    assert "not a number at step" in log  # the hospital's own log has the place
    questions = hospital_of(server.node).ledger._change(lambda entries: (entries, len(entries.questions)))
    assert questions == 4  # with the one of `pixels`


@pytest.mark.parametrize("value", [math.nan, math.inf, 65536.0, -1e9])
@pytest.mark.parametrize("action", ["evaluate", "train"])
def test_weights_that_no_average_has_are_refused_before_they_meet_an_image(attacker, action, value):
    weights = np.zeros(51, np.float32)
    weights[3] = value
    reply = attacker().ask(action, weights=weights, splits=SHARES)
    assert "not numbers below 65536 in magnitude" in reply.error


def test_plans_of_the_servers_choice_are_few_and_fill_no_disk(attacker, monkeypatch):
    import client.policy

    server = attacker()
    answers = [server.ask("prepare", level=1000.0 + number, splits=SHARES) for number in range(7)]
    assert [bool(reply.error) for reply in answers] == [False] * 5 + [True] * 2
    assert "allows 5 preprocessing plans in 31 days under one configuration: resume a run" in answers[5].error
    assert "preprocessing plans" in server.ask("evaluate", level=3000.0, splits=SHARES).error  # whatever is asked
    assert server.ask("evaluate", level=1001.0, splits=SHARES).error == ""  # a known one
    monkeypatch.setattr(client.policy, "Policy", lambda: Policy(max_cache_gb=1e-6))
    more = SHARES | {"test": 0.1}
    assert "more than the 1e-06 GB of its policy" in server.ask("prepare", splits=more).error
    assert server.ask("prepare", level=1001.0, splits=SHARES).error == ""


def test_a_run_has_as_many_questions_as_it_needs(attacker, tmp_path):
    server = attacker()
    few = {"federation": {"rounds": 1}}  # six questions, and five runs' worth of them
    answers = [server.ask("evaluate", splits=SHARES, **few).error for _ in range(31)]
    assert answers[:30] == [""] * 30
    assert "allows 30 questions in 31 days under one configuration" in answers[30]
