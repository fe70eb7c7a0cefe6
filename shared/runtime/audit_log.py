"""The audit log: what was done, in order, each line sealed by the one before it.

A line is canonical JSON (sorted keys, no spaces, ASCII, finite numbers) with `seq`, `at`, `event`, the facts, `before`
(the hash of the line before; 64 zeros in the first) and `hash`: SHA-256 over the same line without `hash`. Linked as in
Haber and Stornetta, J Cryptology 3:99 (1991).

What the chain shows. A changed byte shows at its line: a line must be exactly the canonical bytes of its entry, and its
hash must match. If a line was changed together with its hash, the next line's link shows it; if lines were removed,
swapped or inserted, the first line that does not follow the one before it.

What the chain cannot show. If lines were cut off at the end, or somebody with access to the file wrote its end anew,
the chain is still valid. Only a head (the last line's hash) that was written down elsewhere shows that: give it to the
other side now and then, and pass it to `verify`.

A line is on the disk before `record` returns. A process that is killed while writing leaves at most one torn line at
the very end, without a line break. The next `record` overwrites it with an event `log-repaired`, which holds the
SHA-256 and the number of the torn bytes and is linked to the last complete line, and then writes its own line. Complete
lines are never changed; if the last one is not as it was written, `record` refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shared.atomic_files import writing
from shared.errors import RunError
from shared.runtime.audit_line import (
    LONGEST,
    LONGEST_TAIL,
    START,
    Fact,
    check_facts,
    fault,
    fault_alone,
    parse_entry,
    sealed_line,
)
from shared.runtime.locks import hold_lock

AUDIT = "FEDBREAST_AUDIT"
"""Environment variable with the log of this side, for the processes of `serve` and `serve-site`."""
PATIENCE = 60.0
"""Seconds to wait for other processes that write the same log."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a check: the number of good lines before the first fault, and the hash of the last of them."""

    lines: int
    head: str
    broken_at: int | None
    """Number of the faulty line, from 1; one past the last line if the expected head is missing; None: no fault."""
    why: str


class AuditLog:
    """A log that several processes may write at the same time; its folder is made when needed, a lock lies beside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, event: str, /, **facts: Fact) -> str:
        """Append an event; it is on the disk before this returns. The new head is returned.

        The event is a fixed word in the code, such as `round-trained`. Facts are texts and numbers about it, never
        paths of data, identifiers or free text from data.

        Raises
        ------
        ValueError, TypeError
            A fact has the name of a field that every line has, is not finite, is no plain value, or is too long. The
            file is unchanged.
        RunError
            The last line is not as it was written, and the file is unchanged; or no space is left.

        """
        check_facts(event, facts)
        with writing(str(self.path.parent)), _alone(self.path):
            if not self.path.exists():
                self.path.touch(mode=0o600)
                self.path.chmod(0o640)  # whatever the umask: its group may read it
                _synchronise_folder(self.path.parent)
            with self.path.open("r+b") as file:
                end, seq, before, torn = _tail(file, self.path)
                lines = b""
                if torn:
                    repair: dict[str, Fact] = {"torn_bytes": len(torn), "torn_sha256": hashlib.sha256(torn).hexdigest()}
                    lines, before = sealed_line(seq + 1, "log-repaired", repair, before)
                    seq += 1
                line, head = sealed_line(seq + 1, event, facts, before)
                file.seek(end)
                file.write(lines + line)
                # `truncate` flushes first: after a kill in between, the repair's own line explains the torn bytes.
                file.truncate()
                os.fsync(file.fileno())
        return head


def record(event: str, /, **facts: Fact) -> None:
    """Append an event to this side's audit log if there is one.

    `RunError` or `OSError` where there is one that cannot be written: what cannot be recorded must not happen.
    """
    path = os.environ.get(AUDIT)
    if path:
        AuditLog(Path(path)).record(event, **facts)


def verify(path: Path, expected_head: str | None = None) -> Verdict:
    """Check every line and link in one pass with constant memory; another process may be writing meanwhile.

    One line must have the hash `expected_head`, which was written down earlier; later lines are no fault. Without it,
    lines cut off at the end are not noticed. `FileNotFoundError` where there is no log.
    """
    head, number, has_expected = START, 0, expected_head in {None, START}
    for number, raw in enumerate(_raw_lines(path), start=1):
        why = fault(raw, number, head)
        if why:
            return Verdict(number - 1, head, number, why)
        head = json.loads(raw)["hash"]
        has_expected = has_expected or head == expected_head
    if not has_expected:
        why = "no line has the expected head: lines were cut off at the end, or the log was written anew"
        return Verdict(number, head, number + 1, why)
    return Verdict(number, head, None, "")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of all complete lines, hashes unchecked; a line that is no entry is a `RunError`."""
    for number, raw in enumerate(_raw_lines(path), start=1):
        if not raw.endswith(b"\n") and len(raw) <= LONGEST_TAIL:
            return
        entry = parse_entry(raw)
        if entry is None:
            raise RunError(f"{path}, line {number} is no entry of an audit log: call `fedbreast audit-log verify`")
        yield entry


def _tail(file: BinaryIO, path: Path) -> tuple[int, int, str, bytes]:
    """Position after the last complete line, that line's number and hash, and the torn bytes after it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LONGEST - LONGEST_TAIL))
    whole, line_break, torn = file.read().rpartition(b"\n")
    if not line_break and size <= LONGEST_TAIL:
        return 0, 0, START, torn
    last = whole.rpartition(b"\n")[2] + line_break
    if len(torn) > LONGEST_TAIL or fault_alone(last):
        raise RunError(
            f"the last line of the audit log {path} is not as it was written, so nothing can be linked to it: keep the "
            "file as evidence, see `fedbreast audit-log verify`, and move it away; a new log then starts"
        )
    entry = json.loads(last)
    return size - len(torn), entry["seq"], entry["hash"], torn


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Lines as bytes, none longer than `LONGEST_TAIL + 1`; only those that were there at the beginning."""
    with path.open("rb") as file:
        left = _settled_size(file, path)
        while left > 0 and (raw := file.readline(min(left, LONGEST_TAIL + 1))):
            left -= len(raw)
            yield raw


def _settled_size(file: BinaryIO, path: Path) -> int:
    """Size of the file while nobody writes, so that a line that is just being written does not look torn."""
    if _lock_path(path).exists():
        try:
            with _alone(path):
                return os.fstat(file.fileno()).st_size
        except (OSError, RunError):
            pass  # read-only for us, or a writer hangs: take the size as it is now
    return os.fstat(file.fileno()).st_size


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the log while the context lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = f"another process has held the audit log {path} for {PATIENCE:.0f} s: end it"
    with hold_lock(_lock_path(path), refusal, PATIENCE):
        yield


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
