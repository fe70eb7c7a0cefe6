"""A round's model is evaluated by the question that has it trained further: one exchange a round, the same figures."""

import json
import time
from collections import Counter

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord

from client import local_round
from client.app import app
from server.run_folder.journal import RunFolder
from shared.errors import RunError
from shared.messages.instruction_reply import Instruction
from shared.messages.payload import flatten, manifest_of
from shared.runtime.project import load_run_config
from shared.site import open_site
from tests.end_to_end.wire import RUN_CONFIG, TASK, Killed, Wire, federate, hashes, killed_at, of

SITES = ("centre-a", "centre-b", "centre-c")


def by_hand(root, name, record):
    """What each site says of a round's model when it is asked for that alone."""
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder(root / "runs" / name)
    state = folder.model(record)
    asked = Instruction(name, record.round, folder.plans(), "validation", flatten(state), manifest_of(state), task=TASK)
    sites = {site: open_site(root / config.data.root / site, site, config) for site in SITES}
    return {name: local_round.evaluate(site, asked).sums.to_flat() for name, site in sites.items()}


def test_every_rounds_model_is_evaluated_and_only_the_last_is_asked_for_alone(project):
    root = project(federation={"rounds": 3})
    asked = Counter()

    def client(message, context):
        header = message.content.get("header", {})
        asked[message.metadata.message_type, header.get("round"), header.get("split")] += 1
        return app(message, context)

    texts = []
    federation, records = federate(root, grid=Wire(client), on_progress=lambda *moment: texts.append(moment[3]))
    score = records[1].validation().moments("dice").mean
    assert f"{TASK}, round 3: training (round 1: validation mean Dice {score:.3f})" in texts
    work = {key: count for key, count in asked.items() if key[1]}
    assert work == {("train", number, "train"): 3 for number in (1, 2, 3)} | {("evaluate", 3, "validation"): 3}
    for record in records[1:]:
        assert {site: entry.validation for site, entry in record.sites.items()} == by_hand(root, "one", record)
        assert {site: (entry.status, entry.cases) for site, entry in record.evaluated.items()} == dict.fromkeys(
            SITES, ("accepted", 1)
        )
        assert all(entry.seconds > 0 for entry in record.evaluated.values())
    assert records[0].evaluated == {}
    assert federation.participation.missing() == ()


def test_a_site_whose_update_is_refused_still_evaluates(project):
    root = project()

    def on_answer(message, answers):
        if of(message, "train", 2):
            flat = answers[0].content["weights"]["flat"].numpy() * np.float32("nan")
            answers[0].content["weights"] = ArrayRecord({"flat": Array(flat)})
        return answers

    _, records = federate(root, grid=Wire(on_answer=on_answer))
    assert records[2].sites["centre-b"].status == "refused"
    assert [item.evaluated["centre-b"].status for item in records[1:]] == ["accepted", "accepted"]
    assert records[1].sites["centre-b"].validation == by_hand(root, "one", records[1])["centre-b"]


def test_a_site_that_is_late_is_not_waited_for_a_second_time(project):
    root = project(federation={"round_timeout_s": 6, "retries": 0})
    asked = []

    def client(message, context):
        asked.append((message.metadata.message_type, message.content["header"]["round"]))
        return app(message, context)

    def on_answer(message, answers):
        return [] if of(message, "train", 2) else answers

    started = time.monotonic()
    federation, records = federate(root, grid=Wire(client, on_answer))
    assert time.monotonic() - started < 18
    assert (records[2].sites["centre-b"].status, records[1].evaluated["centre-b"].status) == ("absent", "absent")
    assert records[1].sites["centre-b"].validation is None
    assert ("evaluate", 1) not in asked
    assert federation.participation.missing() == (
        "centre-b was absent in round 2 (no answer before the deadline)",
    )  # that it could not evaluate round 1 is the same absence


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"sums.n": 99}, "evaluates 99 cases"),
        ({"sums.dice.total": 99.0, "sums.dice.squares": 9801.0}, "evaluates to what cannot be: 'dice' cannot be 99.0"),
        ({"evaluation_skipped": 1}, "1 skipped, of 1 registered"),
        ({"evaluation_skipped": -1}, "-1 skipped"),
        ({}, "holds no sums"),
    ],
)
def test_an_evaluation_that_is_wrong_is_not_taken_and_costs_no_update(project, caplog, spoil, reason):
    root = project(federation={"retries": 0})

    def on_answer(message, answers):
        if of(message, "train", 2):
            numbers = dict(answers[0].content["numbers"]) | spoil
            kept = {key: value for key, value in numbers.items() if spoil or not key.startswith("sums.")}
            answers[0].content["numbers"] = MetricRecord(kept)
        return answers

    _, records = federate(root, grid=Wire(on_answer=on_answer))
    assert [item for item in caplog.messages if item.startswith("centre-b sent no good evaluation") and reason in item]
    assert records[2].sites["centre-b"].status == "accepted"
    assert records[1].evaluated["centre-b"].status == "accepted"  # asked alone
    assert records[1].sites["centre-b"].validation == by_hand(root, "one", records[1])["centre-b"]


def test_an_evaluation_that_fails_at_a_site_costs_no_update(project, monkeypatch):
    root = project()
    real = local_round.evaluate
    calls = []

    def evaluate(*given):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("JANE DOE")
        return real(*given)

    monkeypatch.setattr(local_round, "evaluate", evaluate)
    _, records = federate(root)
    assert [entry.status for item in records[1:] for entry in item.sites.values()] == ["accepted"] * 6
    assert [entry.status for entry in records[1].evaluated.values()] == ["accepted"] * 3
    assert len(calls) == 7  # three sites, two models, and the one that failed once more


def test_what_a_late_comer_says_of_one_round_is_not_said_of_those_it_missed(project):
    root = project(federation={"rounds": 3, "join_timeout_s": 1})

    def client(message, context):
        if of(message, "train", 2):
            grid.online |= {1}
        return app(message, context)

    grid = Wire(client)
    grid.online = {2, 3}
    federation, records = federate(root, grid=grid)
    assert [item.sites["centre-a"].status for item in records[1:]] == ["absent", "absent", "accepted"]
    said = [item.sites["centre-a"].validation for item in records[1:]]
    assert [found is not None for found in said] == [False, True, True]
    assert records == federation.folder.records(TASK)


def test_a_round_that_comes_to_nothing_still_tells_what_was_said_of_the_model(project):
    root = project(federation={"min_sites": 3, "retries": 0})

    def failing(message, context):
        if of(message, "train", 2):
            return Message(Error(code=8, reason="died"), reply_to=message)
        return app(message, context)

    def gone(message, context):
        if of(message, "train", 2, "centre-a"):
            grid.online -= {2}
        return app(message, context)

    grid = Wire(gone)
    with pytest.raises(RunError, match="round 2 of lesion-segmentation has 2 good answers"):
        federate(root, grid=grid)
    (left,) = RunFolder(root / "runs" / "one").records(TASK)[1:]
    assert {site: entry.status for site, entry in left.evaluated.items()} == {
        "centre-a": "accepted", "centre-b": "absent", "centre-c": "accepted",
    }  # fmt: skip
    # Who was away is asked when the run goes on, and the run is as it would have been.
    records = federate(root, resume=True)[1]
    assert [entry.status for entry in records[1].evaluated.values()] == ["accepted"] * 3
    assert [item.model_hash for item in records] == hashes(federate(root, "whole")[1])
    with pytest.raises(RunError, match="has 2 good answers"):
        federate(root, "failing", Wire(failing))
    assert RunFolder(root / "runs" / "failing").records(TASK)[1].evaluated["centre-b"].status == "accepted"


def test_what_was_still_to_be_evaluated_when_a_run_broke_off_is_evaluated_when_it_goes_on(project):
    root = project(federation={"rounds": 3})
    whole = federate(root)[1]
    with pytest.raises(Killed):
        federate(root, "broken", Wire(killed_at("train", 3)))
    left = json.loads((root / "runs" / "broken" / "journal" / TASK / "round-002.json").read_text())
    assert left["evaluated"] == {}
    records = federate(root, "broken", resume=True)[1]
    assert hashes(records) == hashes(whole)
    for one, other in zip(records, whole, strict=True):
        assert {site: entry.validation for site, entry in one.sites.items()} == {
            site: entry.validation for site, entry in other.sites.items()
        }
        assert one.evaluated.keys() == other.evaluated.keys()


def test_a_run_that_broke_off_before_its_last_model_was_evaluated_has_it_evaluated(project):
    root = project()

    def failing(message, context):
        if of(message, "evaluate", 2):
            return Message(Error(code=8, reason="died"), reply_to=message)
        return app(message, context)

    with pytest.raises(Killed):
        federate(root, "broken", Wire(killed_at("evaluate", 2)))
    records = federate(root, "broken", Wire(failing), resume=True)[1]
    assert len(records) == 3
    evaluated = {site: entry.status for site, entry in records[2].evaluated.items()}
    assert evaluated == {"centre-a": "accepted", "centre-b": "failed", "centre-c": "accepted"}
