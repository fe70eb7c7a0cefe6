"""One line of the audit log (`audit_log`): how it is sealed, and how a faulty line is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Fact = str | int | float | bool | None

START = "0" * 64
"""The first line's `before`, and the head of an empty log."""
LONGEST = 16 * 1024
"""Bytes of the longest line; bounds a reader's memory, whatever a file holds."""
LONGEST_TAIL = 2 * LONGEST
"""Bytes that a torn end may have: a repair and an event are written at once."""
TORN = "the last line is torn"
OWN = frozenset({"seq", "at", "event", "before", "hash"})
"""The fields that every line has."""
_SEQ_DIGITS = 32


def canonical(entry: Mapping[str, Any]) -> bytes:
    """An entry in its only valid form: JSON with sorted keys, no spaces, ASCII, finite numbers (or `ValueError`)."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def sealed_line(seq: int, event: str, facts: Mapping[str, Fact], before: str) -> tuple[bytes, str]:
    """The line for an event that happens now, with its line break, and the line's hash."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {**facts, "seq": seq, "at": at, "event": event, "before": before}
    digest = hashlib.sha256(canonical(entry)).hexdigest()
    return canonical({**entry, "hash": digest}) + b"\n", digest


def check_facts(event: str, facts: Mapping[str, Fact]) -> None:
    """Refuse facts that a line cannot hold; errors as in `AuditLog.record`."""
    if names := sorted(OWN & facts.keys()):
        raise ValueError(f"a fact cannot be named {names[0]}: every line has a field of this name")
    for name, value in facts.items():
        if not isinstance(value, Fact):
            raise TypeError(f"fact {name} must be a text, a number, a boolean or None, not {type(value).__name__}")
    if len(sealed_line(0, event, facts, START)[0]) > LONGEST - _SEQ_DIGITS:
        raise ValueError(f"the facts of {event} are longer than a line of an audit log may be: {LONGEST} bytes")


def parse_entry(raw: bytes) -> dict[str, Any] | None:
    """The entry in a line, its hash unchecked; None if the line is no entry."""
    try:
        entry = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    complete = isinstance(entry, dict) and entry.keys() >= OWN and type(entry["seq"]) is int
    return entry if complete else None


def fault(raw: bytes, seq: int, before: str) -> str:
    """What is wrong with a line; empty if it is unchanged and is number `seq` after the line with hash `before`."""
    if not raw.endswith(b"\n"):
        return TORN if len(raw) <= LONGEST_TAIL else "the line is longer than this log writes"
    if why := fault_alone(raw):
        return why
    entry = json.loads(raw)
    if entry["before"] != before:
        return "the line does not follow the one before it: one of the two was changed, or a line removed or inserted"
    return "" if entry["seq"] == seq else f"the line says that it is number {entry['seq']}"


def fault_alone(raw: bytes) -> str:
    """What is wrong with a line by itself, whatever comes before it."""
    entry = parse_entry(raw)
    if entry is None:
        return "the line is no entry of an audit log"
    unsealed = {name: value for name, value in entry.items() if name != "hash"}
    try:
        as_written = canonical(entry) + b"\n" == raw
        sealed = hashlib.sha256(canonical(unsealed)).hexdigest() == entry["hash"]
    except (ValueError, RecursionError):
        as_written = sealed = False
    return "" if as_written and sealed else "the line was changed: its hash does not fit what it says"
