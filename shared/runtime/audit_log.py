"""The audit log: what was done, in order, each line sealed by the one before it.

A line is canonical JSON (sorted keys, no spaces, ASCII, finite numbers) with `seq`, `at`, `event`, the facts, `before`
(the hash of the line before; 64 zeros in the first) and `hash`: SHA-256 over the same line without `hash`. Linked as in
Haber and Stornetta, J Cryptology 3:99 (1991).

What the chain shows, and where. A change of any byte of a line is found at that line itself: a line must be exactly the
canonical bytes of what it says, and its hash must fit. A line changed together with its hash is found at the following
line's link; a removed, swapped or inserted line at the first line that does not follow the one before it.

What it cannot show by itself: lines cut off at the end leave a whole chain, and so does an end that somebody with
access to the file wrote anew. Only a head (the last line's hash) that was written down elsewhere shows that: give it to
the other side now and then, and hand it to `verify`.

A line is on the disk before `record` returns. A process killed while writing leaves at most one torn line at the very
end, without a line break, whose `record` never returned. The next `record` writes over it: an event `log-repaired` with
the torn bytes' SHA-256 and number, linked to the last whole line, then its own. Whole lines are never changed; if the
last one is not as it was written, `record` refuses.
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

from filelock import FileLock, Timeout

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
    parsed,
    sealed_line,
)

PATIENCE = 60.0
"""Seconds to wait for other processes that write the same log."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whole lines up to the first fault, the last one's hash, the faulty line's number (from 1) and what is wrong.

    `broken_at` is None and `why` empty when nothing is wrong; one past the last line when the expected head is missing.
    """

    lines: int
    head: str
    broken_at: int | None
    why: str


class AuditLog:
    """A log that several processes may write at once; its folder is made when needed.

    Parameters
    ----------
    path
        The file, `<kit>/state/audit.jsonl`; a lock file lies beside it.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, event: str, /, **facts: Fact) -> str:
        """Append an event, on the disk before this returns.

        Parameters
        ----------
        event
            What happened: a fixed word of the code, such as `round-trained`.
        **facts
            Words and numbers about it. Never paths of data, identifiers or free text from data.

        Returns
        -------
        str
            The new head.

        Raises
        ------
        ValueError, TypeError
            A fact has the name of a field that every line has, is not finite, is no plain value, or is too long.
        RunError
            The last line is not as it was written: the file is as before, as in the cases above. Or no space is left.

        """
        check_facts(event, facts)
        with writing(str(self.path.parent)), _alone(self.path):
            if not self.path.exists():
                self.path.touch(mode=0o640)
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
                # Flushes, then cuts: killed in between, the repair's own line tells of the torn bytes.
                file.truncate()
                os.fsync(file.fileno())
        return head

    def head(self) -> str:
        """Hash of the last whole line, which `record` would link to; 64 zeros before the first.

        Raises
        ------
        RunError
            The last line is not one of this chain.

        """
        if not self.path.exists():
            return START
        with _alone(self.path), self.path.open("rb") as file:
            return _tail(file, self.path)[2]


def verify(path: Path, expected_head: str | None = None) -> Verdict:
    """Check every line and link, in one pass and in flat memory; another process may be writing meanwhile.

    Parameters
    ----------
    path
        The log, or a copy of it.
    expected_head
        A head that was written down earlier. Without it lines cut off at the end are not noticed: what is left is a
        valid chain. With it one line must have this hash; lines that came later are no fault.

    Returns
    -------
    Verdict
        `broken_at` is the first line that is not as it was written, or does not follow the one before it.

    Raises
    ------
    FileNotFoundError
        There is no such file.

    """
    head, number, found = START, 0, expected_head in {None, START}
    for number, raw in enumerate(_raw_lines(path), start=1):
        why = fault(raw, number, head)
        if why:
            return Verdict(number - 1, head, number, why)
        head = json.loads(raw)["hash"]
        found = found or head == expected_head
    if not found:
        why = "no line has the expected head: lines were cut off at the end, or the log was written anew"
        return Verdict(number, head, number + 1, why)
    return Verdict(number, head, None, "")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line's entry, one after the other, hashes unchecked; a torn last line is passed over.

    Raises
    ------
    RunError
        A line is no entry at all; those before it have been given.

    """
    for number, raw in enumerate(_raw_lines(path), start=1):
        if not raw.endswith(b"\n") and len(raw) <= LONGEST_TAIL:
            return
        entry = parsed(raw)
        if entry is None:
            raise RunError(f"{path}, line {number} is no entry of an audit log: call `fedbreast audit-log verify`")
        yield entry


def _tail(file: BinaryIO, path: Path) -> tuple[int, int, str, bytes]:
    """Where the whole lines end, the last one's number and hash, and the torn bytes after them."""
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
    """Lines as bytes, none longer than memory can hold; only those that were there at the beginning."""
    with path.open("rb") as file:
        left = _settled_size(file, path)
        while left > 0 and (raw := file.readline(min(left, LONGEST_TAIL + 1))):
            left -= len(raw)
            yield raw


def _settled_size(file: BinaryIO, path: Path) -> int:
    """Bytes of the file while nobody writes: a line that is just being written is not a torn one."""
    if _lock_path(path).exists():
        try:
            with _alone(path):
                return os.fstat(file.fileno()).st_size
        except (OSError, RunError):
            pass  # read-only for us, or a writer hangs: as it is now
    return os.fstat(file.fileno()).st_size


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing while the context lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(path), timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"another process has held the audit log {path} for {PATIENCE:.0f} s: end it") from None
    try:
        yield
    finally:
        lock.release()


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
