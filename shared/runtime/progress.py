"""A run's progress: one small file that the server writes and whoever watches reads."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.atomic_files import replace_file
from shared.errors import RunError

PHASES = {
    "start": "starting Flower",
    "phantom": "making phantoms",
    "fingerprint": "reading sites",
    "prepare": "preparing cases",
    "train": "training",
    "external": "external centre",
    "report": "writing report",
    "statistics": "statistics and report",
}
"""The phases of a run or a study, in words."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's phase, steps done and in total, a short text, and the time in seconds since 1970."""

    phase: str
    done: int
    total: int
    text: str
    at: float


def write_progress(path: Path, phase: str, done: int, total: int, text: str) -> None:
    """Replace the file atomically; if that fails, nothing is said: work that needs the disk reports it itself."""
    progress = Progress(phase, done, total, text, time.time())
    with suppress(RunError):
        replace_file(path, json.dumps(asdict(progress)).encode(), path.parent.name)


def read_progress(path: Path) -> Progress | None:
    """The last progress; None if there is none yet or the file is damaged."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def site_progress_path(cache: Path, run: str, site: str) -> Path:
    """Where a site writes its progress with its studies, below its cache. Only a simulation's server can read it."""
    # The run's name comes from the server: hashed, it cannot name a path.
    return cache / "progress" / f"{hashlib.sha256(f'{run}|{site}'.encode()).hexdigest()[:24]}.json"
