"""What is new in an audit log that several processes write, told line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.runtime.audit_line import LONGEST, LONGEST_TAIL, OWN, parsed

Say = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's name and its facts."""


class Events:
    """What came into an audit log since the last look; all that is there at first counts as told.

    A torn last line counts as not there: the log writes over it. Nothing is verified here, and what is no line is
    passed over; `fedbreast audit-log verify` judges.

    Parameters
    ----------
    path
        The log; it need not exist yet, and may be moved away meanwhile.
    say
        Told of each event.

    """

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        self._file, self._seen = 0, 0
        if path.is_file():
            found = path.stat()
            self._file, self._seen = found.st_ino, _last_break(path, found.st_size)

    def tell(self) -> None:
        """Say what came since."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._file = 0
            return
        if found.st_ino != self._file or found.st_size < self._seen:
            # It was moved away, and another one begun.
            self._file, self._seen = found.st_ino, 0
        if found.st_size == self._seen:
            return
        with self._path.open("rb") as stream:
            stream.seek(self._seen)
            whole, line_break, _ = stream.read().rpartition(b"\n")
        self._seen += len(whole) + len(line_break)
        for line in whole.split(b"\n"):
            entry = parsed(line)
            if entry is not None:
                self._say(str(entry["event"]), {key: value for key, value in entry.items() if key not in OWN})


def _last_break(path: Path, size: int) -> int:
    """Where the last whole line ends."""
    with path.open("rb") as stream:
        start = max(0, size - LONGEST - LONGEST_TAIL)
        stream.seek(start)
        whole, line_break, _ = stream.read(size - start).rpartition(b"\n")
    return start + len(whole) + len(line_break)
