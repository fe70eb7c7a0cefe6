"""Pictures of a task's best, median and worst case at the external centre, stored as small arrays in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from shared.tasks.task import OWN, Pictures, Task
from shared.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class DrawnCase:
    """A case that a page shows.

    Attributes
    ----------
    label, key
        Why it is shown (`best`), and its pseudonym.
    shown
        What is drawn below the outlines, `(z, y, x)` on the study's own grid.
    reference, predicted
        Masks `(structure, z, y, x)` on the same grid.
    spacing
        `(z, y, x)`, mm.

    """

    label: str
    key: str
    shown: FloatArray
    reference: BoolArray
    predicted: BoolArray
    spacing: tuple[float, float, float]


def drawn_cases(
    task: Task,
    model: nn.Module,
    studies: Mapping[str, Case],
    cases: Sequence[PreparedCase],
    table: pd.DataFrame,
    plan: Plan,
    view: RunConfig,
) -> Iterator[DrawnCase]:
    """The best, median and worst case of one model's table, in one arm; none of a task without pictures.

    `studies` and `cases` are the centre's as they were located, by pseudonym, and as they were prepared.
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
                yield DrawnCase(label, key, shown, reference, predicted, background.spacing)


def store_picture(folder: Path, task: str, pictures: Pictures, one: DrawnCase, centre: str = "") -> None:
    """Store what a page shows of a case, below a run's folder or, by centre, below a study's."""
    volumes = {
        "image": one.shown,
        # Of nested structures, in how many each voxel lies.
        "reference": one.reference.sum(axis=0, dtype=np.uint8),
        "prediction": one.predicted.sum(axis=0, dtype=np.uint8),
    }
    path = picture_path(folder, task, one.label, centre)
    store_planes(path, one.key, volumes, spacing=one.spacing, field_mm=pictures.field_mm)
