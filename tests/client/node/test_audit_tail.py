"""What is new in the audit log is told once and whole, whatever becomes of the file meanwhile."""

import json

import pytest

from client.node.audit_tail import Events
from shared.runtime.audit_line import sealed_line
from shared.runtime.audit_log import AuditLog


@pytest.fixture
def audit(tmp_path):
    found = AuditLog(tmp_path / "audit.jsonl")
    found.record("before", site="centre-a")
    return found


@pytest.fixture
def told():
    return []


def watched(audit, told):
    return Events(audit.path, lambda event, facts: told.append((event, facts)))


def tear(audit, text=b'{"half'):
    """What a process that was killed while writing leaves, or one that is writing just now."""
    with audit.path.open("ab") as stream:
        stream.write(text)


def test_what_others_write_in_the_log_is_told_once_and_whole(audit, told):
    events = watched(audit, told)
    events.report()
    audit.record("connected", site="centre-a", node="5")
    tear(audit)
    events.report()
    events.report()
    assert told == [("connected", {"site": "centre-a", "node": "5"})]


@pytest.mark.parametrize("torn", [b"{", b'{"half', b"x" * 700])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_torn_line_and_its_repair_are_told_as_events(audit, told, torn, when):
    # The repair writes over the torn bytes, so that the next line begins before the place where the file ended.
    if when == "before":
        tear(audit, torn)
    events = watched(audit, told)
    if when == "meanwhile":
        tear(audit, torn)
        events.report()
    audit.record("serving-started", site="centre-a")
    events.report()
    audit.record("connected", site="centre-a")
    events.report()
    assert [event for event, _ in told] == ["log-repaired", "serving-started", "connected"]
    assert told[0][1]["torn_bytes"] == len(torn)


def test_a_log_of_which_nothing_but_a_torn_line_is_there(tmp_path, told):
    audit = AuditLog(tmp_path / "audit.jsonl")
    tear(audit)
    events = watched(audit, told)
    audit.record("serving-started")
    events.report()
    assert [event for event, _ in told] == ["log-repaired", "serving-started"]


@pytest.mark.parametrize("lines", [1, 9])
@pytest.mark.parametrize("looked", [False, True])
def test_after_the_log_is_moved_away_the_new_one_is_told_from_its_first_line(audit, told, lines, looked):
    audit.record("connected")
    events = watched(audit, told)
    audit.path.rename(audit.path.with_name("kept.jsonl"))
    if looked:
        events.report()
    for number in range(lines):  # a shorter log than the one before, and a longer one
        audit.record("round-trained", round=number)
    events.report()
    events.report()
    assert told == [("round-trained", {"round": number}) for number in range(lines)]


def test_a_log_that_was_cut_is_told_anew(audit, told):
    events = watched(audit, told)
    audit.path.write_bytes(b"")
    audit.record("connected")
    events.report()
    assert told == [("connected", {})]


def test_a_log_that_begins_later_is_told_whole(tmp_path, told):
    audit = AuditLog(tmp_path / "audit.jsonl")
    events = watched(audit, told)
    events.report()
    audit.record("serving-started")
    events.report()
    assert told == [("serving-started", {})]


def test_what_is_no_line_is_passed_over(audit, told):
    events = watched(audit, told)
    line, _ = sealed_line(2, "connected", {}, "0" * 64)
    tear(audit, b"no line\n\xff\n[1]\n{}\n" + json.dumps({"event": "x"}).encode() + b"\n\n" + line)
    events.report()
    assert told == [("connected", {})]


def test_a_long_log_is_not_read_from_its_beginning(audit, told, monkeypatch):
    for number in range(150):
        audit.record("round-trained", round=number, note="x" * 500)
    assert audit.path.stat().st_size > 1 << 16
    tear(audit)
    events = watched(audit, told)
    events.report()
    assert told == []
    audit.record("connected")
    events.report()
    assert [event for event, _ in told] == ["log-repaired", "connected"]
