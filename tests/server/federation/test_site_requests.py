"""Answers over Flower's grid: the first of each request, and no site's bad answer costs another's."""

import time
from types import SimpleNamespace

import pytest
from flwr.app import Message

from server.federation.site_requests import LEAST_LEFT_S, Answer, SiteRequests, pull, push, read
from server.federation.update_checks import check_error
from server.run_folder.round_record import SiteEntry
from server.run_folder.site_states import SiteStates
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.errors import UpdateError
from shared.messages.instruction_reply import TRAIN, Instruction, Reply
from shared.messages.records import read_instruction, write_reply

CONFIG = parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"]}}, "t")


def answer(question, **facts):
    content = write_reply(Reply("a", "run", 1, cases=4, skipped=1, seconds=2.0, **facts))
    metadata = SimpleNamespace(reply_to_message_id=question)
    return SimpleNamespace(metadata=metadata, content=content, has_error=lambda: False)


class Grid:
    """Gives what stands under a question, or raises it; takes every second message."""

    def __init__(self, **answers):
        self.answers = answers

    def push_messages(self, messages):
        return [item if number % 2 == 0 else "" for number, item in enumerate(messages)]

    def pull_messages(self, questions):
        (question,) = questions
        if isinstance(self.answers.get(question), Exception):
            raise self.answers[question]
        return self.answers.get(question, [])


def test_what_flower_does_not_take_is_not_waited_for():
    assert push(Grid(), {"a": "first", "b": "second", "c": "third"}) == {"first": "a", "third": "c"}
    assert push(Grid(), {}) == {}


def test_a_second_answer_is_dropped_and_an_unreadable_one_costs_only_itself(caplog):
    first, second, other = answer("one"), answer("one"), answer("three")
    grid = Grid(one=[first, second], two=ValueError("the site's bytes"), three=[other])
    assert list(pull(grid, ["one", "two", "three", "four"])) == [("one", first), ("two", None), ("three", other)]
    assert "a second answer to one request is dropped" in caplog.text
    assert "the site's bytes" not in caplog.text


def refuse(_site, _reply):
    raise UpdateError("not so")


@pytest.mark.parametrize(
    ("message", "check", "status", "reason"),
    [
        (None, refuse, "refused", "the answer cannot be put together"),
        (answer("one"), refuse, "refused", "not so"),
        (answer("one", error="no disk"), refuse, "failed", "not so"),
        (answer("one"), lambda *_: None, "accepted", ""),
    ],
)
def test_an_answer_is_accepted_refused_or_reports_a_failure(message, check, status, reason):
    found = read(message, "a", CONFIG, "", check, attempts=2)
    assert (found.status, found.reason, found.attempts, found.reply is not None) == (
        status, reason, 2, status == "accepted",
    )  # fmt: skip


@pytest.mark.parametrize("error", [KeyError("JANE"), OverflowError("JANE"), MemoryError("JANE"), TypeError("JANE")])
def test_an_error_of_any_class_costs_that_answer_alone_and_is_told_by_its_class(error):
    def fail(_site, _reply):
        raise error

    got = read(answer("one"), "a", CONFIG, "", fail)
    assert (got.status, got.reply) == ("refused", None)
    assert got.reason == f"its answer could not be handled ({type(error).__name__})"


class Slow(InProcessGrid):
    """A grid that notes how long each message may live."""

    def __init__(self, app, sites):
        super().__init__(app, {}, sites)
        self.lifetimes = []

    def push_messages(self, messages):
        messages = list(messages)
        self.lifetimes += [item.metadata.ttl for item in messages]
        return super().push_messages(messages)


@pytest.mark.parametrize(("spent", "asked"), [(0.0, 6), (1.0, 1)])
def test_nobody_is_asked_once_more_without_time_left(tmp_path, spent, asked):
    def failing(message, _context):
        time.sleep(spent)
        item = read_instruction(message)
        return Message(write_reply(Reply(item.site, item.run, item.round, error="RunError: no")), reply_to=message)

    config = parse_config(
        {"name": "t", "data": {"root": "d", "sites": ["a"]}, "federation": {"round_timeout_s": 1.9, "retries": 5}}, "t"
    )
    grid = Slow(failing, 1)
    requests = SiteRequests(grid, config, {"a": 1}, SiteStates(tmp_path, ["a"]))
    ((name, got),) = requests.ask(["a"], TRAIN, Instruction("run", 1), check_error)
    assert (name, got.status, got.attempts, got.waited) == ("a", "failed", asked, False)
    assert min(grid.lifetimes) >= LEAST_LEFT_S


def test_the_line_in_the_ledger_counts_the_cases_of_an_accepted_answer():
    accepted = read(answer("one"), "a", CONFIG, "", lambda *_: None, attempts=2)
    assert accepted.entry == SiteEntry("accepted", "", cases=4, skipped=1, seconds=2.0, attempts=2)
    assert Answer("absent", "late", 3).entry == SiteEntry("absent", "late", attempts=3)
