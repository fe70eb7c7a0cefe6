"""The audit log of this side, where there is one: `fedbreast serve` and `serve-site` name it to what they start."""

from __future__ import annotations

import os
from pathlib import Path

from shared.runtime.audit_log import AuditLog

AUDIT = "FEDBREAST_AUDIT"
"""Environment variable: path of the log. A simulation has none."""


def record(event: str, /, **facts: str | float | bool | None) -> None:
    """Append an event to this side's log; see `AuditLog.record`.

    Raises
    ------
    RunError, OSError
        There is a log, and it cannot be written: what cannot be recorded must not happen.

    """
    named = os.environ.get(AUDIT)
    if named:
        AuditLog(Path(named)).record(event, **facts)
