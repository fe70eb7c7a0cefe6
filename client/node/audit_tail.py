"""Reports the new events of an audit log that several processes write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.runtime.audit_line import LONGEST, LONGEST_TAIL, OWN, parse_entry

Say = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's name and its facts."""


class Events:
    """The events that were appended to an audit log since the last report; those there at first are not reported.

    The log need not exist yet, and may be moved away meanwhile. A torn last line counts as absent: the log overwrites
    it. Nothing is verified here, and a line that is no entry is skipped; `fedbreast audit-log verify` checks the log.
    """

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        self._file, self._read_to = 0, 0
        if path.is_file():
            stat = path.stat()
            self._file, self._read_to = stat.st_ino, _last_break(path, stat.st_size)

    def report(self) -> None:
        """Say the events that are new."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._file = 0
            return
        if stat.st_ino != self._file or stat.st_size < self._read_to:
            # It was moved away, and another one started.
            self._file, self._read_to = stat.st_ino, 0
        if stat.st_size == self._read_to:
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read_to)
            whole, line_break, _ = stream.read().rpartition(b"\n")
        self._read_to += len(whole) + len(line_break)
        for line in whole.split(b"\n"):
            entry = parse_entry(line)
            if entry is not None:
                self._say(str(entry["event"]), {key: value for key, value in entry.items() if key not in OWN})


def _last_break(path: Path, size: int) -> int:
    """Position after the last complete line, bytes."""
    with path.open("rb") as stream:
        start = max(0, size - LONGEST - LONGEST_TAIL)
        stream.seek(start)
        whole, line_break, _ = stream.read(size - start).rpartition(b"\n")
    return start + len(whole) + len(line_break)
