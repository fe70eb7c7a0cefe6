"""A snapshot of a run's folder as one small JSON object, for observers: counts and means, nothing of a single case."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from server.monitoring.training_progress import pace, site_tiles, task_course
from shared.config.run_config import RunConfig, load_config
from shared.errors import ConfigError, FedBreastError
from shared.metrics.sums import Sums
from shared.runtime.progress import PHASES, read_progress
from shared.runtime.project import project_root
from shared.tasks import TASKS, task_named
from shared.words import plain_words

MOST_SITES = 100
MOST_CELLS = 20_000
"""Most rounds times sites, over all tasks, in a snapshot; of longer runs it has the last rounds."""
_MOST_TEXT, _MOST_REASON = 500, 160
_MOST_ROUNDS_KEPT = 50_000
_FILES = ("config.toml", "started.json", "progress.json", "sites.json", "cases.json", "results.json")


class Stamp(NamedTuple):
    """A version of a file: files are always replaced as a whole, so a change shows here."""

    path: Path
    changed_ns: int
    size: int
    number: int


def snapshot(runs: Path, name: str | None = None) -> dict[str, Any]:
    """The current state of a run.

    Files are read only when they are new or were replaced: a call without a change looks at each file's time. The same
    object is returned until something changes; callers must not modify it. The run is the one of this name, a folder
    below `runs`, or the one that was started last.

    Returns
    -------
    `run` (None: there is none yet), `state` (waiting, running, failed or finished), `outcome` (once finished: complete
    or partial, as `results.json` has it; `text` then says what is missing), `phase`, `doing` (the phase in words),
    `done` of `total`, `text`, `at`, `started` (seconds since 1970), `left_s` and `left_at` (seconds of training left
    as seen then; None before every task has two rounds), `phantom`, `sites` and `tasks` (see `training_progress`).

    Raises
    ------
    ConfigError
        The name is not a plain folder name.

    """
    if name is not None and (Path(name).name != name or name.startswith(".")):
        raise ConfigError(f"a run's name is a folder's name, without slashes or a leading dot: {name[:64]!r}")
    folder = (runs / (name or "latest")).resolve()
    stamps = tuple(stamp for file in _FILES if (stamp := _stamp(folder / file)) is not None)
    journals = []
    for task in sorted(path.name for path in (folder / "journal").glob("*/")):
        seen = (_stamp(path) for path in (folder / "journal" / task).glob("round-*.json"))
        journals.append((task, tuple(sorted(item for item in seen if item is not None))))
    return _assemble(folder.name if stamps or name else None, folder, stamps, tuple(journals))


@lru_cache(maxsize=8)
def _assemble(
    name: str | None, folder: Path, stamps: tuple[Stamp, ...], journals: tuple[tuple[str, tuple[Stamp, ...]], ...]
) -> dict[str, Any]:
    """Make the snapshot from the files; one that is absent or not as expected counts as empty."""
    files = {item.path.name: item for item in stamps}
    config = _config(files["config.toml"]) if "config.toml" in files else None
    moment = read_progress(folder / "progress.json") if "progress.json" in files else None
    rounds = {task: [item for stamp in found if (item := _round(stamp, task))] for task, found in journals}
    planned: dict[str, int] = {task: config.for_task(task).federation.rounds for task in config.tasks} if config else {}
    courses = [
        task_course(task, rounds.get(task, []), planned.get(task)) for task in dict.fromkeys([*planned, *rounds])
    ]
    phase = moment.phase if moment else ""
    made = read_json(folder / "results.json").get("provenance", {}) if phase == "done" else {}
    state = {"": "waiting", "done": "finished", "failed": "failed"}.get(phase, "running")
    committed = [item["committed"] for task in rounds.values() for item in task]
    named = list(config.data.sites) if config else []
    sites = site_tiles(named, _sites(files.get("sites.json")), _flow(files.get("cases.json")), courses)[:MOST_SITES]
    kept = max(1, MOST_CELLS // max(1, len(sites) * len(courses)))
    shown: dict[str, Any] = {
        "run": name,
        "state": state,
        "outcome": made.get("outcome"),
        "phase": phase,
        "doing": PHASES.get(phase, phase),
        "done": moment.done if moment else 0,
        "total": moment.total if moment else 0,
        "text": (moment.text if moment and moment.text else "; ".join(made.get("missing", ())))[:_MOST_TEXT],
        "at": moment.at if moment else None,
        "started": _started(files.get("started.json")),
        "left_s": pace(courses) if state == "running" else None,
        "left_at": max(committed, default=None),
        "phantom": config is not None and _phantom(config),
        "sites": sites,
        "tasks": [task | {"rounds": task["rounds"][-kept:]} for task in courses],
    }
    visible: dict[str, Any] = plain_words(shown)
    return visible


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return Stamp(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@lru_cache(maxsize=_MOST_ROUNDS_KEPT)
def _round(stamp: Stamp, task: str) -> dict[str, Any] | None:
    """A committed round in a few numbers: `validation` as the whole score and one a site. None of the starting model.

    Read as a plain object: a journal of an older or newer version is shown as far as it goes.
    """
    raw = read_json(stamp.path)
    if not raw.get("round"):
        return None
    known = task_named(task) if task in TASKS else None

    def sums_of(entry: Any) -> Sums:
        try:
            return Sums.from_flat(entry["validation"], known.kinds, strict=False) if known else Sums()
        except (ValueError, KeyError, TypeError):
            return Sums()

    def score(sums: Sums) -> float | None:
        return known.choice.of(sums) if known else None

    entries = dict(list(raw.get("sites", {}).items())[:MOST_SITES])
    parts = {name: sums_of(entry) for name, entry in entries.items()}
    return {
        "round": raw["round"],
        "committed": (_stamp(_model(stamp.path)) or stamp).changed_ns / 1e9,  # the record changes when it is evaluated
        "seconds": raw.get("seconds"),
        "hash": str(raw.get("model_hash", ""))[:12],
        "score": score(sum(parts.values(), Sums())),
        "sites": {
            name: {
                "status": entry.get("status", ""),
                "reason": entry.get("reason", "")[:_MOST_REASON],
                "cases": entry.get("cases", 0),
                "loss": entry.get("loss"),
                "score": score(parts[name]),
            }
            for name, entry in entries.items()
        },
    }


def _model(record: Path) -> Path:
    """The model file of a round's record."""
    return record.parents[2] / "models" / record.parent.name / f"{record.stem}.safetensors"


@lru_cache(maxsize=64)
def _config(stamp: Stamp) -> RunConfig | None:
    try:
        return load_config(stamp.path)
    except FedBreastError:
        return None


def _phantom(config: RunConfig) -> bool:
    """As `server.run.is_phantom`, which imports all of training and makes a folder's key where it has none."""
    if config.data.phantom is not None or config.data.external is None:
        return config.data.phantom is not None
    try:
        text = (project_root() / config.data.root / config.data.external / "site.toml").read_text(encoding="utf-8-sig")
        return bool(tomllib.loads(text)["site"].get("kind") == "phantom")
    except (OSError, ValueError, KeyError):
        return False


def _started(stamp: Stamp | None) -> float | None:
    try:
        return datetime.fromisoformat(read_json(stamp.path)["at"]).timestamp() if stamp else None
    except (ValueError, KeyError, TypeError):
        return None


def _sites(stamp: Stamp | None) -> dict[str, dict[str, Any]]:
    """The fields of `sites.json` that are shown."""
    sites = read_json(stamp.path).get("sites", {}) if stamp else {}
    return {
        name: {
            "state": str(item.get("state", "")),
            "since": item.get("since"),
            "reason": str(item.get("reason", ""))[:_MOST_REASON],
        }
        for name, item in sites.items()
    }


def _flow(stamp: Stamp | None) -> dict[str, int]:
    """Number of training cases of each site, from `cases.json`."""
    flow = read_json(stamp.path) if stamp else {}
    return {
        name: item.get("included", {}).get("train", 0)
        for name, item in flow.items()
        if item.get("role", "training") == "training"
    }
