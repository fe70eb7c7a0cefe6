"""Lesion outlines at the external centre: every model's figures, the chosen one's outlines, pictures of its cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from server.run_folder.pictures import select_pictures, store_picture
from server.run_folder.predictions import prediction_table
from shared.cohort.preflight import Case
from shared.config.run_config import RunConfig
from shared.inference import evaluate_case
from shared.preprocessing.cache import CachedCase
from shared.tasks import task_named
from shared.types import BoolArray

ARM = "federated"


def segment_centre(
    run_dir: Path,
    studies: Mapping[str, Case],
    cases: Sequence[CachedCase],
    view: RunConfig,
    models: Mapping[str, Mapping[str, torch.Tensor]],
    best: str,
    outlines: dict[str, BoolArray],
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """Table of every model's cases; see `predictions.prediction_table`.

    Parameters
    ----------
    run_dir
        The run's folder, for the pictures.
    studies
        The centre's cases by pseudonym.
    cases
        Those of them that are prepared and have the task's reference.
    view
        The configuration as the task sees it.
    models, best
        State dicts by hash, and the chosen one's.
    outlines
        Filled with the chosen model's masks by case, on the studies' own grids: what classifiers read end to end.
    on_case
        Called after each case and model.

    """
    tables = []
    for model_hash, state in models.items():
        model = task_named(view.task).build_model(view)
        model.load_state_dict(dict(state))
        judged = []
        for case in cases:
            metrics, outline = evaluate_case(model, case, view)
            judged.append((case.key, metrics))
            if model_hash == best:
                outlines[case.key] = outline
            on_case()
        tables.append(prediction_table(judged, centre=str(view.data.external), arm=ARM, model_hash=model_hash))
        if model_hash == best:
            _store_pictures(run_dir, studies, cases, tables[-1], outlines)
    return pd.concat(tables, ignore_index=True)


def _store_pictures(
    run_dir: Path,
    studies: Mapping[str, Case],
    cases: Sequence[CachedCase],
    table: pd.DataFrame,
    outlines: Mapping[str, BoolArray],
) -> None:
    """Store the best, median and worst case on the study's own grid."""
    by_key = {case.key: case for case in cases}
    for label, key in select_pictures(table).items():
        study = studies[key].load_study()
        store_picture(
            run_dir,
            label,
            key,
            image=np.stack([study.phases[0], study.phases[1] - study.phases[0]]),
            reference=by_key[key].native_mask,
            prediction=outlines[key],
            spacing=study.grid.spacing,
        )
