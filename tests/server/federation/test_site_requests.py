"""Answers over Flower's grid: the first of each request, and no site's bad answer costs another's."""

from types import SimpleNamespace

import pytest

from server.federation.site_requests import Answer, pull, push, read
from server.run_folder.round_record import SiteEntry
from shared.config.run_config import parse_config
from shared.errors import UpdateError
from shared.messages.instruction_reply import Reply
from shared.messages.records import write_reply

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


def test_the_line_in_the_ledger_counts_the_cases_of_an_accepted_answer():
    accepted = read(answer("one"), "a", CONFIG, "", lambda *_: None, attempts=2)
    assert accepted.entry == SiteEntry("accepted", "", cases=4, skipped=1, seconds=2.0, attempts=2)
    assert Answer("absent", "late", 3).entry == SiteEntry("absent", "late", attempts=3)
