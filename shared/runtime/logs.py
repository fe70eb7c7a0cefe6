"""Logs of both sides: one JSON object per line, without the text of exceptions that are not ours.

A library's text may quote what it read, such as a patient's name. Our own never do, but for those of a site's folder,
whose text is kept out as well (`shared.errors.safe_error`).
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

from shared.errors import FedBreastError, SiteError
from shared.words import plain

PACKAGES = ("server", "shared", "client")


class QuietFile(logging.FileHandler):
    """A log file that stays silent when it cannot be written.

    Python would print the record instead, and what a simulated node prints ends up in the server's log. Closing the
    file would raise an error that hides the one that matters.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if possible."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say nothing."""

    def close(self) -> None:
        """Close the file, even if not everything could be written."""
        with suppress(OSError):
            super().close()


class JsonLines(logging.Formatter):
    """Time, level, logger and message of a record as JSON.

    An exception adds `exception` (its class), `frames` (file within its package, line, function; innermost last),
    `text` if it is ours, and `cause` with the same of its cause. An exception among a message's arguments is replaced
    by its class unless it is ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": plain(_message(record), keep="\n"),
        }
        if record.exc_info and record.exc_info[1]:
            entry |= _exception_entry(record.exc_info[1], record.exc_info[2])
        return json.dumps(entry)


@contextmanager
def log_to(path: Path, packages: Sequence[str] = PACKAGES, *, alone: bool = False) -> Iterator[None]:
    """Append the packages' log records to `path` while the context lasts; with `alone` they go nowhere else."""
    handler = QuietFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in packages]
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
    safe = copy.copy(record)
    if isinstance(safe.msg, BaseException):
        safe.msg = _safe_argument(safe.msg)
    if isinstance(safe.args, tuple):
        safe.args = tuple(map(_safe_argument, safe.args))
    elif safe.args:
        safe.args = {name: _safe_argument(value) for name, value in safe.args.items()}
    return safe.getMessage()


def _safe_argument(value: object) -> object:
    if isinstance(value, SiteError):
        return value.told
    foreign = isinstance(value, BaseException) and not isinstance(value, FedBreastError)
    return type(value).__name__ if foreign else value


def _exception_entry(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    """What a log may contain of an exception; `frames` name code of this project and of libraries, never data."""
    entry: dict[str, Any] = {
        "exception": type(error).__name__,
        "frames": [f"{_file(frame)}:{line} in {frame.f_code.co_name}" for frame, line in traceback.walk_tb(trace)],
    }
    if isinstance(error, FedBreastError):
        entry["text"] = str(_safe_argument(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        entry["cause"] = _exception_entry(cause, cause.__traceback__)
    return entry


def _file(frame: FrameType) -> str:
    """`client/app.py`, `pydicom/filereader.py`; outside a package the file's name alone: folders may have any name."""
    parts = Path(frame.f_code.co_filename).parts
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    if package not in parts[:-1]:
        return parts[-1]
    start = len(parts) - 1 - parts[::-1].index(package)
    return "/".join(parts[start:])
