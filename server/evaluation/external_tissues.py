"""Breast and fibroglandular tissue at the external centre: every model's figures, pictures of the chosen one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from server.evaluation.external_segmentation import ARM
from server.run_folder.pictures import TISSUES, select_pictures, store_planes
from server.run_folder.predictions import tissue_table
from shared.cohort.preflight import Case
from shared.config.run_config import RunConfig
from shared.inference import evaluate_tissues, outline_tissues
from shared.metrics.tissues import tissue_surfaces
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.tissues import native_tissues
from shared.tasks import task_named

FIELD_OF_VIEW_MM = 150.0
"""A breast with what surrounds it."""


def outline_centre(
    run_dir: Path,
    studies: Mapping[str, Case],
    cases: Sequence[CachedCase],
    view: RunConfig,
    models: Mapping[str, Mapping[str, torch.Tensor]],
    best: str,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """Table of every model's cases; see `predictions.tissue_table`. Parameters as `external_segmentation`'s.

    A centre without reference masks has an empty table: its other tasks are judged all the same.
    """
    tables = []
    for model_hash, state in models.items():
        model = task_named(view.task).build_model(view)
        model.load_state_dict(dict(state))
        judged = []
        for case in cases:
            metrics, predicted = evaluate_tissues(model, case, view)
            surfaces = tissue_surfaces(
                predicted,
                native_tissues(case),
                case.native_grid.spacing,
                nsd_tolerance_mm=view.evaluation.nsd_tolerance_mm,
            )
            judged.append((case.key, metrics.to_dict() | surfaces))
            on_case()
        tables.append(tissue_table(judged, centre=str(view.data.external), arm=ARM, model_hash=model_hash))
        if model_hash == best and cases:
            _store_pictures(run_dir, studies, cases, view, model, tables[-1])
    return pd.concat(tables, ignore_index=True)


def _store_pictures(
    run_dir: Path,
    studies: Mapping[str, Case],
    cases: Sequence[CachedCase],
    view: RunConfig,
    model: torch.nn.Module,
    table: pd.DataFrame,
) -> None:
    """Store the best, median and worst case by fibroglandular Dice, the harder of the two: it decides the density."""
    by_key = {case.key: case for case in cases}
    for label, key in select_pictures(table, "dice_fibroglandular").items():
        study, case = studies[key].load_study(), by_key[key]
        store_planes(
            run_dir / TISSUES / f"{label}.npz",
            key,
            # Each voxel's number of structures: 1 in the breast, 2 in its fibroglandular tissue.
            {
                "image": study.phases[0],
                "reference": native_tissues(case).sum(axis=0, dtype=np.uint8),
                "prediction": outline_tissues(model, case, view).sum(axis=0, dtype=np.uint8),
            },
            spacing=study.grid.spacing,
            field_mm=FIELD_OF_VIEW_MM,
        )
