"""How far a run is: one small file, written by the server, read by whoever watches."""

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
    """A moment of a run: its phase, steps done and in all, a word about it, and the clock, seconds since 1970."""

    phase: str
    done: int
    total: int
    text: str
    at: float


def write_progress(path: Path, phase: str, done: int, total: int, text: str) -> None:
    """Replace the file atomically: a reader sees one moment or the next, never half of one.

    Where it cannot be written it is left as it is: work that needs the disk says so itself.
    """
    moment = Progress(phase, done, total, text, time.time())
    with suppress(RunError):
        replace_file(path, json.dumps(asdict(moment)).encode(), path.parent.name)


def read_progress(path: Path) -> Progress | None:
    """The last moment; None before the first, or when the file is not one."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def site_progress_path(cache: Path, run: str, site: str) -> Path:
    """Where a site says how far it is with its studies, below its cache. Only a simulation's server can read it."""
    # The run's name comes from the server: hashed, it cannot name a place.
    return cache / "progress" / f"{hashlib.sha256(f'{run}|{site}'.encode()).hexdigest()[:24]}.json"
