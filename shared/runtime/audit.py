"""Records events in this side's audit log; `fedbreast serve` and `serve-site` tell their processes where it is."""

from __future__ import annotations

import os
from pathlib import Path

from shared.runtime.audit_log import AuditLog

AUDIT = "FEDBREAST_AUDIT"
"""Environment variable with the log's path; not set in a simulation."""


def record(event: str, /, **facts: str | float | bool | None) -> None:
    """Append an event to this side's audit log if there is one; see `AuditLog.record`.

    Raises
    ------
    RunError, OSError
        There is a log and it cannot be written: what cannot be recorded must not happen.

    """
    path = os.environ.get(AUDIT)
    if path:
        AuditLog(Path(path)).record(event, **facts)
