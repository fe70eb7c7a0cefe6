"""The run's log: one JSON object a line, without patient data."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOMS = ("server", "shared", "client")


class JsonLines(logging.Formatter):
    """Time, level, logger and message of a record as JSON; an exception adds its class, never its text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            # A library's exception may quote what it read.
            entry["exception"] = record.exc_info[0].__name__
        return json.dumps(entry)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the project's own log records to `path` for as long as the context lasts."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(room) for room in ROOMS]
    before = [item.level for item in loggers]
    for item in loggers:
        item.addHandler(handler)
        item.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, level in zip(loggers, before, strict=True):
            item.removeHandler(handler)
            item.setLevel(level)
        handler.close()
