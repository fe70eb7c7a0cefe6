"""The locked centre is opened once a run, for models that are named; `external-opened.json` says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter

from server.run_folder.format import read_json
from server.run_folder.journal import RunFolder
from shared.errors import RunError

OPENED = "external-opened.json"


class Opened(BaseModel):
    """For which models a centre was opened, when, and whether by its own node, which sends sums."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    centre: str
    model_hashes: tuple[str, ...]
    at_node: bool = False
    at: AwareDatetime


def open_once(folder: RunFolder, centre: str, hashes: Iterable[str], *, at_node: bool = False) -> None:
    """Record that the external centre is opened, before its first case is read.

    A run that was stopped in between may go on with the same models; `RunError` where it was opened for others.
    """
    names = tuple(sorted(set(hashes)))
    before = read_opened(folder.path)
    if before is None:
        entry = {"centre": centre, "model_hashes": names, "at_node": at_node, "at": datetime.now(UTC).isoformat()}
        folder.write(OPENED, json.dumps(entry, indent=1).encode())
    elif (before.centre, before.model_hashes, before.at_node) != (centre, names, at_node):
        raise RunError(
            f"the external centre '{centre}' was already opened in this run, for other models: figures at a centre "
            "that chose between models are no external evaluation. Start a new run",
        )


def read_opened(run_dir: Path) -> Opened | None:
    """How the centre was opened; None where it was not, `RunError` where the file is damaged."""
    file = run_dir / OPENED
    return read_json(file, TypeAdapter(Opened), f"{run_dir.name}/{OPENED}") if file.exists() else None
