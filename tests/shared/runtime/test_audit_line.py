"""One line of the audit log, sealed by hand as its documentation says."""

import hashlib
import json

import pytest

from shared.runtime.audit_line import (
    LONGEST,
    START,
    TORN,
    canonical,
    check_facts,
    fault,
    fault_alone,
    parse_entry,
    sealed_line,
)


def test_a_line_is_canonical_json_sealed_with_sha256():
    raw, digest = sealed_line(3, "round-trained", {"site": "centre-ä", "loss": 0.5}, START)
    entry = json.loads(raw)
    bare = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    assert entry["hash"] == digest == hashlib.sha256(text.encode("ascii")).hexdigest()
    assert raw == json.dumps(entry, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"
    assert (entry["seq"], entry["event"], entry["before"], entry["site"]) == (3, "round-trained", START, "centre-ä")
    assert fault(raw, 3, START) == fault_alone(raw) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:-1], TORN),
        (lambda raw: raw.replace(b"0.5", b"0.6"), "was changed"),
        (lambda raw: raw.replace(b",", b", ", 1), "was changed"),
        (lambda _: b"[1]\n", "no entry"),
        (lambda _: b"\xff\n", "no entry"),
        (lambda _: b"x" * 100_000, "longer than"),
    ],
)
def test_a_line_that_was_touched_has_a_fault(change, words):
    raw, _ = sealed_line(3, "round-trained", {"loss": 0.5}, START)
    assert words in fault(change(raw), 3, START)


def test_a_good_line_in_a_wrong_place_has_a_fault():
    raw, digest = sealed_line(3, "round-trained", {}, START)
    assert "does not follow" in fault(raw, 3, digest)
    assert "number 3" in fault(raw, 4, START)


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"seq": 1}, ValueError),
        ({"a": object()}, TypeError),
        ({"a": float("nan")}, ValueError),
        ({"a": "x" * LONGEST}, ValueError),
    ],
)
def test_facts_that_no_line_can_hold_are_refused(facts, error):
    with pytest.raises(error):
        check_facts("event", facts)
    check_facts("event", {"site": "centre-a", "n": 3, "ok": True, "note": None})


def test_an_entry_needs_every_field_and_a_whole_number():
    raw, _ = sealed_line(1, "event", {}, START)
    entry = parse_entry(raw)
    for name in entry:
        assert parse_entry(canonical({key: value for key, value in entry.items() if key != name})) is None
    assert parse_entry(canonical(entry | {"seq": True})) is None
    assert parse_entry(b"[" * 100_000) is None
