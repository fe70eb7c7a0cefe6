"""Locks between processes: a file that one process holds at a time; the system frees it when the process ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from shared.errors import RunError


def hold_lock(path: Path, refusal: str, patience_s: float = 0.0) -> AcquireReturnProxy[Any]:
    """Take a lock file at once; it is held until the context that is returned ends, or its `lock` is released.

    After `patience_s` seconds a `RunError` says `refusal`.
    """
    try:
        return FileLock(path).acquire(timeout=patience_s)
    except Timeout:
        raise RunError(refusal) from None
