"""Logs of both sides: one JSON object a line, never with the text of an exception that is not ours.

A library's text may quote what it read, a patient's name too. Our own errors hold none (shared/errors.py).
"""

from __future__ import annotations

import copy
import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from shared.errors import FedBreastError

ROOMS = ("server", "shared", "client")


class QuietFile(logging.FileHandler):
    """A log file that is silent when it cannot be written.

    Python would print the record, and what a simulated node prints the server's log gets; and to close the file would
    raise, over the error that matters.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that is possible."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say nothing."""

    def close(self) -> None:
        """Close the file, whatever could not be written."""
        with suppress(OSError):
            super().close()


class JsonLines(logging.Formatter):
    """Time, level, logger and message of a record as JSON.

    An exception adds `exception` (its class), `frames` (file within its package, line, function; innermost last),
    `text` if it is ours, and `cause` with the same of the one it came from. An exception among a message's arguments is
    told as its class unless it is ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info and record.exc_info[1]:
            entry |= _told(record.exc_info[1], record.exc_info[2])
        return json.dumps(entry)


@contextmanager
def log_to(path: Path, rooms: Sequence[str] = ROOMS, *, alone: bool = False) -> Iterator[None]:
    """Append the rooms' log records to `path` for as long as the context lasts; `alone`: and send them nowhere else."""
    handler = QuietFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(room) for room in rooms]
    before = [(item.handlers, item.propagate, item.level) for item in loggers]
    for item in loggers:
        item.handlers = [handler] if alone else [*item.handlers, handler]
        item.propagate = item.propagate and not alone
        item.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, (handlers, propagate, level) in zip(loggers, before, strict=True):
            item.handlers, item.propagate = handlers, propagate
            item.setLevel(level)
        handler.close()


def _message(record: logging.LogRecord) -> str:
    told = copy.copy(record)
    if isinstance(told.msg, BaseException):
        told.msg = _word(told.msg)
    if isinstance(told.args, tuple):
        told.args = tuple(map(_word, told.args))
    elif told.args:
        told.args = {name: _word(value) for name, value in told.args.items()}
    return told.getMessage()


def _word(value: object) -> object:
    foreign = isinstance(value, BaseException) and not isinstance(value, FedBreastError)
    return type(value).__name__ if foreign else value


def _told(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    """What a log may say of an exception; `frames` are this project's and libraries' code, never data."""
    told: dict[str, Any] = {
        "exception": type(error).__name__,
        "frames": [f"{_file(frame)}:{line} in {frame.f_code.co_name}" for frame, line in traceback.walk_tb(trace)],
    }
    if isinstance(error, FedBreastError):
        told["text"] = str(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told["cause"] = _told(cause, cause.__traceback__)
    return told


def _file(frame: FrameType) -> str:
    """`client/app.py`, `pydicom/filereader.py`; the bare name outside a package: folders may have any name."""
    parts = Path(frame.f_code.co_filename).parts
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    if package not in parts[:-1]:
        return parts[-1]
    start = len(parts) - 1 - parts[::-1].index(package)
    return "/".join(parts[start:])
