"""The locked centre is opened once a run, for models that are named; `external-opened.json` says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from server.run_folder.format import read_json
from server.run_folder.journal import RunFolder
from shared.errors import RunError

OPENED = "external-opened.json"


class Opened(BaseModel):
    """For which models a centre was opened, when, and whether by its own node, which sends sums.

    `tasks` has the models of each task; nothing in files of earlier versions.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    centre: str
    model_hashes: tuple[str, ...]
    tasks: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    at_node: bool = False
    at: AwareDatetime


def open_once(folder: RunFolder, centre: str, models: Mapping[str, Iterable[str]], *, at_node: bool = False) -> None:
    """Record that the external centre is opened for these models of each task, before its first case is read.

    A run that was stopped in between may go on with the same models, and with further tasks: nothing is chosen by what
    was seen. `RunError` where it was opened for other models of a task.
    """
    tasks = {name: tuple(sorted(set(hashes))) for name, hashes in models.items()}
    names = tuple(sorted({item for hashes in tasks.values() for item in hashes}))
    before = read_opened(folder.path)
    same = before is None or (before.centre, before.at_node) == (centre, at_node)
    if before is None or (same and before.tasks and before.tasks.items() < tasks.items()):
        at = (before.at if before else datetime.now(UTC)).isoformat()
        entry = {"centre": centre, "model_hashes": names, "tasks": tasks, "at_node": at_node, "at": at}
        folder.write(OPENED, json.dumps(entry, indent=1).encode())
    elif not same or (before.tasks and before.tasks != tasks) or before.model_hashes != names:
        raise RunError(
            f"the external centre '{centre}' was already opened in this run, for other models: figures at a centre "
            "that chose between models are no external evaluation. Start a new run",
        )


def read_opened(run_dir: Path) -> Opened | None:
    """How the centre was opened; None where it was not, `RunError` where the file is damaged."""
    file = run_dir / OPENED
    return read_json(file, TypeAdapter(Opened), f"{run_dir.name}/{OPENED}") if file.exists() else None
