"""Locks between processes: a file that one process holds at a time; the system frees it when the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from shared.errors import RunError


@contextmanager
def hold_lock(path: Path, refusal: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file while the context lasts; after `patience_s` seconds a `RunError` says `refusal`."""
    lock = FileLock(path, timeout=patience_s)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(refusal) from None
    try:
        yield
    finally:
        lock.release()
