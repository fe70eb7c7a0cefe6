"""A site that is connected and silent costs the others a deadline or two, not one a round (H13)."""

import time
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from server.federation.absences import LEFT_OUT
from server.federation.rounds import Federation
from server.federation.site_requests import LATE
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.messages.records import read_instruction
from shared.tasks import task_named
from tests.end_to_end.tiny_sites import TASK, site

DEADLINE_S = 2.0


class Killed(BaseException):
    """What no code of ours catches."""


class Net(InProcessGrid):
    """Three nodes; `lost(kind, round)` says which answers of the second never arrive, though it stays connected."""

    def __init__(self, lost, client=site):
        super().__init__(client, {}, 3)
        self.lost, self.asked = lost, {}

    def push_messages(self, messages):
        messages = list(messages)
        identifiers = super().push_messages(messages)
        self.asked |= dict(zip(identifiers, messages, strict=True))
        return identifiers

    def pull_messages(self, message_ids):
        answers = super().pull_messages(message_ids)
        if not answers:
            return []
        question = self.asked[answers[0].metadata.reply_to_message_id]
        kind, number = question.metadata.message_type, question.content["header"]["round"]
        return [] if question.metadata.dst_node_id == 2 and self.lost(kind, number) else answers


def config(rounds, **federation):
    federation = {"round_timeout_s": DEADLINE_S, "join_timeout_s": DEADLINE_S, "retries": 0} | federation
    return parse_config(
        {
            "name": "tiny",
            "data": {"root": "none", "sites": ["site-0", "site-1", "site-2"]},
            "model": {"channels": [8, 8], "deep_supervision": 1},
            "federation": {"rounds": rounds, **federation},
        },
        "tiny",
    )


def federate(folder, lost, rounds=8, client=site, resume=False, **federation):
    settings = config(rounds, **federation)
    run = RunFolder.resume(Path(folder))[0] if resume else RunFolder.create(Path(folder), settings)
    try:
        made = Federation(Net(lost, client), settings, run, lambda *_: None)
        made.register()
        return made, made.train(task_named(TASK))
    finally:
        run.release()


def fate(records, name="site-1"):
    words = {"": "x", LATE: "late", LEFT_OUT: "-"}
    return " ".join(words.get(item.sites[name].reason, "?") for item in records[1:])


def test_a_silent_site_costs_two_deadlines_and_stands_in_ledger_journal_and_page(tmp_path):
    def silent(kind, number):
        return number > 0 or (kind == "query.register" and len(seen) > 3)

    seen = []

    def client(message, context):
        seen.append(read_instruction(message))
        return site(message, context)

    started = time.monotonic()
    made, records = federate(tmp_path / "one", silent, rounds=12, client=client)
    spent = time.monotonic() - started
    assert fate(records) == "late late" + " -" * 10
    assert spent < 6 * DEADLINE_S  # a deadline a round would be twelve
    assert RunFolder(tmp_path / "one").records(TASK) == records
    assert all(item.sites["site-0"].status == "accepted" for item in records[1:])
    assert records[-1].evaluated["site-1"].reason == LEFT_OUT
    (both, out, *rest) = made.participation.missing()
    assert both == f"site-1 was absent in rounds 1, 2 ({LATE})"
    assert out.startswith("site-1 was absent in rounds 3, 4, 5")
    assert LEFT_OUT in out
    assert not rest
    assert len([item for item in seen if item.site == "site-1" and item.round > 2]) == 0


def test_it_is_back_when_it_says_so_and_a_run_that_was_killed_meanwhile_has_the_same_bytes(tmp_path):
    def lost(kind, number):
        return kind == "train" and number in {2, 3}

    _, records = federate(tmp_path / "whole", lost)
    assert fate(records) == "x late late - x x x x"
    for killed_at in (4, 5):

        def client(message, context, killed_at=killed_at):
            item = read_instruction(message)
            if message.metadata.message_type == "train" and item.round == killed_at:
                raise Killed
            return site(message, context)

        folder = tmp_path / f"killed at {killed_at}"
        with pytest.raises(Killed):
            federate(folder, lost, client=client)
        _, resumed = federate(folder, lost, resume=True)
        assert fate(resumed) == fate(records)
        assert [item.model_hash for item in resumed] == [item.model_hash for item in records]


def test_one_that_says_that_it_is_there_and_never_trains_costs_ever_fewer_rounds(tmp_path):
    _, records = federate(tmp_path / "one", lambda kind, _: kind == "train", rounds=12)
    assert fate(records) == "late late - late - - late - - - - late"


def test_how_many_absences_is_configured(tmp_path):
    _, records = federate(tmp_path / "one", lambda kind, _: kind == "train", rounds=3, left_out_after=1)
    assert fate(records) == "late - late"


def test_nobody_is_left_out_where_the_others_would_be_too_few(tmp_path):
    _, records = federate(
        tmp_path / "one", lambda kind, number: kind == "train" and number == 1, rounds=3, left_out_after=1, min_sites=2
    )
    assert fate(records) == "late - x"
    with pytest.raises(Exception, match=r"round 1 of .* has 2 good answers"):
        federate(tmp_path / "two", lambda kind, _: kind == "train", left_out_after=1, min_sites=3)


def test_a_site_that_never_prepares_holds_the_others_up_ever_more_rarely(tmp_path):
    _, records = federate(tmp_path / "one", lambda kind, _: kind == "query.prepare", rounds=12)
    assert fate(records).replace("?", "late") == "late late - late - - late - - - - late"
    assert records[-1].sites["site-1"].reason == "did not prepare its cases before the deadline"


def test_rounds_in_which_a_site_is_away_and_nobody_waits_for_it_do_not_count(tmp_path):
    """It was too late when it prepared, once, and then gone: back, it is asked at once."""
    settings, number, folder = config(8), [0], RunFolder.create(tmp_path / "one", config(8))

    class Away(Net):
        def get_node_ids(self):
            return [1, 3] if 1 <= number[0] < 6 else [1, 2, 3]

    def client(message, context):
        item = read_instruction(message)
        number[0] = max(number[0], item.round)
        return site(message, context)

    grid = Away(lambda kind, _: kind == "query.prepare" and not number[0], client)
    try:
        made = Federation(grid, settings, folder, lambda *_: None)
        made.register()
        records = made.train(task_named(TASK))
    finally:
        folder.release()
    assert [item.sites["site-1"].status for item in records[1:]] == ["absent"] * 6 + ["accepted"] * 2
    assert [item.sites["site-1"].held_up for item in records[1:]] == [True] + [False] * 7


def test_a_site_that_is_gone_when_it_was_left_out_joins_when_its_node_is_back_under_another_number(tmp_path):
    settings = config(8)
    folder = RunFolder.create(tmp_path / "one", settings)

    class Leaving(Net):
        def get_node_ids(self):
            return [1, 3] if number[0] == 4 else [node for node in self._contexts if node != 2 or number[0] < 4]

    number = [0]

    def client(message, context):
        item = read_instruction(message)
        if message.metadata.message_type == "train":
            number[0] = item.round
            if item.round == 5 and 22 not in grid._contexts:
                grid._contexts[22] = Context(run_id=1, node_id=22, node_config={}, state=RecordDict(), run_config={})
        known = context if context.node_id != 22 else Context(2, 2, {}, RecordDict(), {})
        return site(message, known)

    grid = Leaving(lambda kind, at: kind == "train" and at < 4, client)
    try:
        made = Federation(grid, settings, folder, lambda *_: None)
        made.register()
        records = made.train(task_named(TASK))
    finally:
        folder.release()
    assert fate(records).startswith("late late -")
    assert records[-1].sites["site-1"].status == "accepted"
