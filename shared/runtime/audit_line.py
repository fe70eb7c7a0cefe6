"""One line of the audit log: how it is sealed, and what is wrong with one that is not so. The log: `audit_log`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Fact = str | int | float | bool | None

START = "0" * 64
"""What the first line's `before` says, and the head of a log without lines."""
LONGEST = 16 * 1024
"""Bytes of the longest line: a reader's memory stays flat whatever a file holds."""
LONGEST_TAIL = 2 * LONGEST
"""Bytes that may be torn: a repair and an event are written at once."""
TORN = "the last line is torn"
OWN = frozenset({"seq", "at", "event", "before", "hash"})
"""The fields that every line has."""
_SEQ_DIGITS = 32


def canonical(entry: Mapping[str, Any]) -> bytes:
    """The one way to write an entry: sorted keys, no spaces, ASCII.

    Raises
    ------
    ValueError
        A number is not finite.

    """
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def sealed_line(seq: int, event: str, facts: Mapping[str, Fact], before: str) -> tuple[bytes, str]:
    """The line that tells of an event now, with its line break, and its hash."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {**facts, "seq": seq, "at": at, "event": event, "before": before}
    digest = hashlib.sha256(canonical(entry)).hexdigest()
    return canonical({**entry, "hash": digest}) + b"\n", digest


def check_facts(event: str, facts: Mapping[str, Fact]) -> None:
    """Refuse facts that no line can hold; errors as in `AuditLog.record`."""
    if taken := sorted(OWN & facts.keys()):
        raise ValueError(f"a fact cannot be named {taken[0]}: every line has a field of this name")
    for name, value in facts.items():
        if not isinstance(value, Fact):
            raise TypeError(f"fact {name} is no word, number, truth or None but {type(value).__name__}")
    if len(sealed_line(0, event, facts, START)[0]) > LONGEST - _SEQ_DIGITS:
        raise ValueError(f"the facts of {event} are longer than a line of an audit log may be: {LONGEST} bytes")


def parsed(raw: bytes) -> dict[str, Any] | None:
    """The entry that a line holds, its hash unchecked; None if it holds none."""
    try:
        entry = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and entry.keys() >= OWN and type(entry["seq"]) is int
    return entry if whole else None


def fault(raw: bytes, seq: int, before: str) -> str:
    """What is wrong with a line; nothing if it is as it was written and is number `seq` after the hash `before`."""
    if not raw.endswith(b"\n"):
        return TORN if len(raw) <= LONGEST_TAIL else "the line is longer than this log writes"
    if why := fault_alone(raw):
        return why
    entry = json.loads(raw)
    if entry["before"] != before:
        return "the line does not follow the one before it: one of the two was changed, or a line removed or inserted"
    return "" if entry["seq"] == seq else f"the line says that it is number {entry['seq']}"


def fault_alone(raw: bytes) -> str:
    """What is wrong with a line, whatever stands before it."""
    entry = parsed(raw)
    if entry is None:
        return "the line is no entry of an audit log"
    unsealed = {name: value for name, value in entry.items() if name != "hash"}
    try:
        as_written = canonical(entry) + b"\n" == raw
        sealed = hashlib.sha256(canonical(unsealed)).hexdigest() == entry["hash"]
    except (ValueError, RecursionError):
        as_written = sealed = False
    return "" if as_written and sealed else "the line was changed: its hash does not fit what it says"
