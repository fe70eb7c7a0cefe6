"""Pictures of a task's best, median and worst case at the external centre, stored as small arrays in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from server.run_folder.pictures import picture_path, select_pictures, store_planes
from shared.cohort.preflight import Case
from shared.config.run_config import RunConfig
from shared.evaluation import Arms, evaluate
from shared.modalities import modality_named
from shared.modalities.modality import Plan, PreparedCase
from shared.tasks.task import OWN, Task
from shared.types import BoolArray, FloatArray

Draw = Callable[[str, str, FloatArray, BoolArray, BoolArray, tuple[float, float, float]], None]
"""Given the label (`best`), the case, what is shown of it `(z, y, x)`, reference and predicted masks
`(structure, z, y, x)` on the study's own grid, and the grid's spacing, mm."""


def draw_cases(
    task: Task,
    model: nn.Module,
    studies: Mapping[str, Case],
    cases: Sequence[PreparedCase],
    table: pd.DataFrame,
    plan: Plan,
    view: RunConfig,
    draw: Draw,
) -> None:
    """Have the best, median and worst case of one model's table drawn; nothing of a task without pictures.

    Parameters
    ----------
    task, model
        What is drawn.
    studies, cases
        The centre's cases as they were located, by pseudonym, and as they were prepared.
    table
        One model's rows of the per-case table, in one arm.
    plan, view
        As `evaluate`.
    draw
        Called for each.

    """
    if task.pictures is None or table.empty:
        return
    prepared = {case.key: case for case in cases}
    for label, key in select_pictures(table, task.pictures.by).items():
        background = modality_named(task.modality).background(studies[key])
        for _, measured in evaluate(task, Arms({OWN: model}), [prepared[key]], plan, view, full=False):
            masks = measured[OWN].masks
            if masks is not None:
                predicted, reference = masks
                shown = background.images[task.pictures.background]
                draw(label, key, shown, reference, predicted, background.spacing)


def store_pictures(folder: Path, task: Task, centre: str = "") -> Draw:
    """Store what a page shows of a case, below a run's folder or, by centre, below a study's; see `draw_cases`."""
    pictures = task.pictures
    assert pictures is not None  # noqa: S101 - asked for by a task that has them

    def store(
        label: str,
        key: str,
        shown: FloatArray,
        reference: BoolArray,
        predicted: BoolArray,
        spacing: tuple[float, float, float],
    ) -> None:
        volumes = {
            "image": shown,
            # Of nested structures, in how many each voxel lies.
            "reference": reference.sum(axis=0, dtype=np.uint8),
            "prediction": predicted.sum(axis=0, dtype=np.uint8),
        }
        path = picture_path(folder, task.name, label, centre)
        store_planes(path, key, volumes, spacing=spacing, field_mm=pictures.field_mm)

    return store
