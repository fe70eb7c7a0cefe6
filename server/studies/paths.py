"""Where a study keeps what: the files of folds and cells. A cell is finished when its last file is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord
from server.studies.design import Cell

HELD_OUT = "held_out.json"
"""In a fold's folder: how many cases of the centre left out were evaluated, and why others were not."""


def fold_folder(root: Path, held_out: str) -> Path:
    """Folder of a fold."""
    return root / "folds" / held_out


def cell_folder(root: Path, cell: Cell) -> Path:
    """Run folder of a `train` cell."""
    return fold_folder(root, cell.centre) / "cells" / cell.task / f"{cell.arm.replace(':', '-')}-seed-{cell.seed}"


def evaluated_path(root: Path, cell: Cell) -> Path:
    """Per-case table of an `evaluate` cell."""
    return fold_folder(root, cell.centre) / "evaluated" / f"{cell.task}-seed-{cell.seed}.parquet"


def last_file(root: Path, cell: Cell) -> Path:
    """What a cell writes last."""
    if cell.kind == "extract":
        return root / "extracted" / f"{cell.centre}.json"
    if cell.kind == "prepare":
        return fold_folder(root, cell.centre) / "prepared.json"
    if cell.kind == "train":
        return cell_folder(root, cell) / "cell.json"
    return evaluated_path(root, cell)


def finished(root: Path, cell: Cell) -> bool:
    """Whether a cell's last file is there."""
    return last_file(root, cell).is_file()


def progress_path(root: Path, cell: Cell) -> Path:
    """Where a running cell says how far it is."""
    return root / "progress" / f"{cell.name.replace(' ', '_')}.json"


def trained(root: Path, cell: Cell) -> tuple[dict[str, Any], RunFolder, RoundRecord]:
    """What a finished `train` cell says of itself, its run folder, and the record of the chosen round."""
    entry = json.loads(last_file(root, cell).read_text(encoding="utf-8"))
    folder = RunFolder(cell_folder(root, cell))
    return entry, folder, next(item for item in folder.records(cell.task) if item.round == entry["best_round"])
