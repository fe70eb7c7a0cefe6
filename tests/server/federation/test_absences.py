"""Who is left out after how many absences in a row, and for how long; from the ledgers alone."""

import pytest

from server.federation.absences import LEFT_OUT, Absences, left_out_entry
from server.run_folder.round_record import SiteEntry

LATE = SiteEntry("absent", "no answer before the deadline", held_up=True)
GOOD = SiteEntry("accepted", cases=3)


def course(most, answers, there=True):
    """What is done with a site, a letter a round: asked or left out; `answers` are what it does when it is asked."""
    absences, said, done = Absences(most), iter(answers), ""
    while True:
        if there:
            absences.answered(absences.silent())
        if absences.left_out("a"):
            entry, done = left_out_entry(), done + "-"
        else:
            try:
                entry, done = next(said), done + "a"
            except StopIteration:
                return done
        absences.take({"a": entry})
        if len(done) == 40:
            return done


@pytest.mark.parametrize(
    ("most", "answers", "expected"),
    [
        (1, [GOOD] * 3, "aaaa"[:3]),
        (2, [LATE, LATE, GOOD, GOOD], "aa-aa"),
        (2, [LATE, GOOD, LATE, GOOD], "aaaa"),
        (2, [LATE] * 5, "aa-a--a----a" + "-" * 8),
        (3, [LATE, LATE, LATE, GOOD, LATE, LATE], "aaa-aaa"),
    ],
)
def test_a_site_that_is_there_but_keeps_others_waiting_is_asked_ever_more_rarely(most, answers, expected):
    assert course(most, answers) == expected


def test_one_that_does_not_say_that_it_is_there_is_not_asked_at_all():
    assert course(2, [LATE] * 40, there=False) == "aa" + "-" * 38


def test_so_rarely_and_no_more():
    absences = Absences(1)
    absences.take({"a": LATE})
    for _ in range(100):
        absences.take({"a": LATE})
    assert absences.silent() == ["a"]
    absences.answered(["a"])
    for _ in range(64):
        assert absences.left_out("a")
        absences.take({"a": left_out_entry()})
    assert not absences.left_out("a")


@pytest.mark.parametrize(
    "entry",
    [
        SiteEntry("absent", "its connection is lost"),  # costs nobody anything: it is not waited for
        SiteEntry("absent", "has no label of this task", attempts=0),
    ],
)
def test_who_keeps_nobody_waiting_is_never_left_out_and_is_not_back_either(entry):
    absences = Absences(2)
    for _ in range(5):
        absences.take({"a": entry})
    assert not absences.left_out("a")
    absences.take({"a": LATE})
    absences.take({"a": entry})
    absences.take({"a": LATE})
    assert absences.left_out("a")


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_a_bad_answer_counts_only_where_it_was_waited_for(status):
    absences = Absences(1)
    absences.take({"a": SiteEntry(status, "no")})
    assert not absences.left_out("a")
    absences.take({"a": SiteEntry(status, "no", held_up=True)})
    assert absences.left_out("a")


def test_the_ledger_says_why_a_site_was_not_asked():
    entry = left_out_entry()
    assert (entry.status, entry.reason, entry.attempts, entry.cases) == ("absent", LEFT_OUT, 0, 0)
