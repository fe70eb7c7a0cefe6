"""What a study consists of: folds, cells of work that wait for one another, and the files of both.

A fold leaves one centre out. Its cells: `prepare` the plan and the training centres, `train` one model for each arm and
seed, and, once every model of the fold is frozen, `evaluate` all of them on the centre left out. `extract` reads a
centre's images once, for every fold in which it trains. A cell is finished when its last file is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from server.run_folder.arms import FEDERATED, LOCAL, POOLED, is_local, local_arm
from shared.config.run_config import RunConfig

if TYPE_CHECKING:
    from server.run_folder.journal import RunFolder
    from server.run_folder.round_record import RoundRecord

Kind = Literal["extract", "prepare", "train", "evaluate"]

HELD_OUT = "held_out.json"
"""In a fold's folder: how many cases of the centre left out were evaluated, and why others were not."""
_NO_DEADLINE_S = 1e6  # in one process a slow machine must not change who takes part


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One piece of work; `centre` is the one left out, or of `extract` the one read."""

    kind: Kind
    centre: str
    task: str = ""
    arm: str = ""
    seed: int = -1

    @property
    def name(self) -> str:
        """For files and for readers: `centre-d train lesion-segmentation local-centre-a seed-0`."""
        parts = [self.kind, self.task, self.arm.replace(":", "-"), f"seed-{self.seed}" if self.seed >= 0 else ""]
        return " ".join([self.centre, *(part for part in parts if part)])


@dataclass(frozen=True, slots=True)
class Design:
    """A study's folds, arms and seeds, from its configuration."""

    config: RunConfig

    @property
    def folds(self) -> tuple[str, ...]:
        """Centres that are left out, one at a time."""
        return self.config.study.held_out or self.config.centres

    def training(self, held_out: str) -> tuple[str, ...]:
        """Centres that train in a fold."""
        return tuple(name for name in self.config.centres if name != held_out)

    def trained_arms(self, held_out: str) -> list[str]:
        """Arms of a fold that train a model, those that take longest first; the ensemble trains none."""
        chosen = self.config.study.arms
        local = [local_arm(name) for name in self.training(held_out)] if LOCAL in chosen else []
        return [*(arm for arm in (FEDERATED, POOLED) if arm in chosen), *local]

    def fold(self, held_out: str, seed: int | None = None) -> RunConfig:
        """The configuration of a fold's cells."""
        config = self.config.leaving_out(held_out)
        federation = config.federation.model_copy(update={"round_timeout_s": _NO_DEADLINE_S})
        return config.model_copy(update={"federation": federation, "seed": config.seed if seed is None else seed})

    def trainings(self, held_out: str) -> list[Cell]:
        """The cells whose models a fold evaluates."""
        return [
            Cell("train", held_out, task, arm, seed)
            for task in self.config.tasks
            for seed in self.config.study.seeds
            for arm in self.trained_arms(held_out)
        ]

    def cells(self) -> dict[Cell, list[Cell]]:
        """Every cell and those it waits for, in the order of work."""
        read = [name for name in self.config.centres if any(name in self.training(fold) for fold in self.folds)]
        cells: dict[Cell, list[Cell]] = {Cell("extract", name): [] for name in reversed(read)}
        cells |= {Cell("prepare", fold): [Cell("extract", name) for name in self.training(fold)] for fold in self.folds}
        for fold in self.folds:
            models = self.trainings(fold)
            cells |= {cell: [Cell("prepare", fold)] for cell in models}
            cells |= {
                Cell("evaluate", fold, task, "", seed): models
                for task in self.config.tasks
                for seed in self.config.study.seeds
            }
        return cells


def training_steps(cell: Cell, design: Design) -> int:
    """Optimiser steps of a `train` cell: what all its centres do together."""
    view = design.config.for_task(cell.task or design.config.task)
    sites = 1 if is_local(cell.arm) else len(design.training(cell.centre))
    return view.federation.rounds * view.training.steps_per_round * sites


def differences(before: Mapping[str, object], after: Mapping[str, object], path: str = "") -> list[str]:
    """Keys in which two nested tables differ, by their full path."""
    keys = []
    for key in sorted({*before, *after}):
        here, old, new = f"{path}{key}", before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            keys += differences(old, new, f"{here}.")
        elif old != new:
            keys.append(here)
    return keys


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
    # Imported here: the command line reads a design, and torch takes seconds.
    from server.run_folder.journal import RunFolder

    entry = json.loads(last_file(root, cell).read_text(encoding="utf-8"))
    folder = RunFolder(cell_folder(root, cell))
    return entry, folder, next(item for item in folder.records(cell.task) if item.round == entry["best_round"])
