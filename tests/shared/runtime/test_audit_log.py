"""The audit log: the chain breaks where a line was touched. Writers and kills: test_audit_writers.py."""

import hashlib
import json
import os
import tempfile
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RunError
from shared.runtime.audit_line import LONGEST, START
from shared.runtime.audit_log import AuditLog, Verdict, read, verify

ROUNDS = 6


def written(folder, lines=ROUNDS):
    log = AuditLog(folder / "state" / "audit.jsonl")
    for number in range(lines):
        log.record("round-trained", round=number, site="centre-ä", loss=0.1 * number, masked=True, note=None)
    return log


@pytest.fixture
def log(tmp_path):
    return written(tmp_path)


@pytest.fixture(scope="module")
def whole():
    with tempfile.TemporaryDirectory() as folder:
        return written(Path(folder)).path.read_bytes()


def sealed(entry):
    """A line as somebody forges it who knows the format: by hand, not with the log's own code."""
    bare = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    whole = bare | {"hash": hashlib.sha256(text.encode()).hexdigest()}
    return (json.dumps(whole, sort_keys=True, separators=(",", ":")) + "\n").encode()


def checked(folder, lines):
    path = folder / "copy.jsonl"
    path.write_bytes(b"".join(lines))
    return verify(path)


def test_lines_are_canonical_and_linked_by_hashes_that_anybody_can_recompute(log):
    raw = log.path.read_bytes().splitlines(keepends=True)
    entries = [json.loads(line) for line in raw]
    assert [sealed(entry) for entry in entries] == raw
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[0]["before"] == "0" * 64
    assert all(after["before"] == entry["hash"] for entry, after in pairwise(entries))
    assert entries[3] | {"site": "centre-ä", "round": 3, "masked": True, "note": None} == entries[3]
    assert list(read(log.path)) == entries
    assert verify(log.path) == Verdict(6, entries[-1]["hash"], None, "")


def test_a_log_without_lines_has_a_head_too(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    (tmp_path / "audit.jsonl").touch()
    assert verify(log.path) == Verdict(0, START, None, "")


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_at_its_own_line(whole, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    with tempfile.TemporaryDirectory() as folder:
        verdict = checked(Path(folder), [whole[:at], bytes([value]), whole[at + 1 :]])
    assert verdict.broken_at == whole[:at].count(b"\n") + 1
    assert verdict.lines == verdict.broken_at - 1


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_removed_swapped_doubled_or_moved_line_breaks_the_chain_exactly_there(whole, data):
    lines = whole.splitlines(keepends=True)
    first, second = sorted(data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=2, unique=True)))
    swapped = list(lines)
    swapped[first], swapped[second] = lines[second], lines[first]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert checked(folder, swapped).broken_at == first + 1
        assert checked(folder, lines[:first] + lines[first + 1 :]).broken_at == first + 1  # `first` is never the last
        assert checked(folder, [*lines[: first + 1], *lines[first:]]).broken_at == first + 2
        assert checked(folder, [*lines[:first], lines[second], *lines[first:]]).broken_at == first + 1


def test_a_line_forged_with_its_hash_is_found_at_the_next_ones_link(log, tmp_path):
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[2] = sealed(json.loads(lines[2]) | {"loss": 0.0})
    verdict = checked(tmp_path, lines)
    assert (verdict.broken_at, verdict.lines) == (4, 3)
    assert "does not follow" in verdict.why
    inserted = sealed(json.loads(lines[1]) | {"before": json.loads(lines[1])["hash"], "seq": 3})
    assert (
        checked(tmp_path, [*lines[:2], inserted, *log.path.read_bytes().splitlines(keepends=True)[2:]]).broken_at == 4
    )


@pytest.mark.parametrize(("old", "new"), [(b"\\u00e4", b"\\u00E4"), (b",", b", "), (b"0.2", b"2e-1"), (b"\n", b"\r\n")])
def test_a_line_that_says_the_same_in_other_bytes_is_broken(log, tmp_path, old, new):
    lines = log.path.read_bytes().splitlines(keepends=True)
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new, 1)
    assert checked(tmp_path, lines).broken_at == 3


def test_a_number_that_does_not_follow_is_found(log, tmp_path):
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[5] = sealed(json.loads(lines[5]) | {"seq": 9})
    assert checked(tmp_path, lines) == Verdict(5, json.loads(lines[4])["hash"], 6, "the line says that it is number 9")


def test_only_a_head_written_down_shows_that_the_end_was_cut_off(log, tmp_path):
    middle = verify(log.path)
    log.record("run-ended")
    assert verify(log.path, middle.head).broken_at is None  # the log went on: no fault
    lines = log.path.read_bytes().splitlines(keepends=True)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join(lines[:4]))
    assert verify(copy).broken_at is None
    verdict = verify(copy, middle.head)
    assert (verdict.lines, verdict.broken_at) == (4, 5)
    assert "cut off" in verdict.why
    copy.write_bytes(b"")
    assert verify(copy, middle.head).broken_at == 1
    assert verify(copy, START).broken_at is None


def test_a_log_whose_last_line_was_touched_is_not_written_on(log):
    lines = log.path.read_bytes().splitlines(keepends=True)
    for bad in (lines[5].replace(b'"round":5', b'"round":4'), b"\n", b"x" * 3 * LONGEST, b"\xff\n"):
        log.path.write_bytes(b"".join(lines[:5]) + bad)
        as_it_was = log.path.read_bytes()
        with pytest.raises(RunError, match="keep the file as evidence"):
            log.record("run-ended")
        assert log.path.read_bytes() == as_it_was
        assert verify(log.path).broken_at == 6


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"loss": float("nan")}, ValueError),
        ({"loss": float("inf")}, ValueError),
        ({"seq": 3}, ValueError),
        ({"event": "x"}, ValueError),
        ({"note": "x" * LONGEST}, ValueError),
        ({"sites": ["a"]}, TypeError),
    ],
)
def test_facts_that_no_line_can_hold_are_refused_before_anything_is_written(log, facts, error):
    before = log.path.read_bytes()
    with pytest.raises(error):
        log.record("run-ended", **facts)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("line", ["[" * 5000, '{"a":1e999}', '{"a":NaN}', "null", '{"a":1,"a":2}', "1" * 6000, "{}"])
def test_whatever_a_line_holds_it_is_broken_and_never_a_crash(log, line):
    log.path.write_bytes(log.path.read_bytes() + line.encode() + b"\n")
    assert verify(log.path).broken_at == 7
    entries = read(log.path)
    assert [next(entries)["seq"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(RunError, match="line 7"):
        next(entries)


def test_memory_stays_flat_however_long_a_line_or_the_log(tmp_path):
    path = tmp_path / "audit.jsonl"
    with path.open("wb") as file:
        before, seq = START, 0
        while file.tell() < 4_000_000:
            seq += 1
            line = sealed({"seq": seq, "at": "t", "event": "e", "note": "x" * 8000, "before": before})
            before = json.loads(line)["hash"]
            file.write(line)
        whole = file.tell()
        file.write(b"x" * 4_000_000)
    tracemalloc.start()
    verdict = verify(path)
    os.truncate(path, whole)
    assert verify(path).broken_at is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (verdict.lines, verdict.broken_at) == (seq, seq + 1)
    assert "longer" in verdict.why
    assert peak < 500_000


def test_its_group_may_read_it_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        AuditLog(tmp_path / "audit.jsonl").record("started")
    finally:
        os.umask(before)
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o640
