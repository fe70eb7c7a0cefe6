"""Classifiers at the external centre: each case in its reference outline, and in the one the federation itself drew.

Only the second is what a hospital would get: DICOM in, mask and subtype out. The first tells how much of its error is
the classifier's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from server.run_folder.predictions import score_table
from shared.config.run_config import RunConfig
from shared.errors import StudyError
from shared.inference import classify
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.lesion_patch import cut_patch
from shared.preprocessing.plan import Plan
from shared.tasks import task_named
from shared.tasks.patches import section
from shared.types import BoolArray

ARM = "federated"
END_TO_END = f"{ARM}:end-to-end"


def classify_centre(
    cases: Sequence[CachedCase],
    outlines: Mapping[str, BoolArray],
    view: RunConfig,
    plan: Plan,
    models: Mapping[str, Mapping[str, torch.Tensor]],
    best: str,
    centre: str,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """Long table of scores; see `predictions.score_table`.

    Parameters
    ----------
    cases
        Prepared cases that have the task's labels.
    outlines
        The segmentation model's masks on the studies' own grids by case; empty when the run trained none.
    view
        The configuration as the task sees it.
    models, best
        State dicts by hash; the chosen one is read end to end too, and its branches are told apart.
    on_case
        Called after each case and model.

    """
    task, patch = task_named(view.task), section(view).patch
    tables = []
    for model_hash, state in models.items():
        model = task.build_model(view)
        model.load_state_dict(dict(state))
        scored: dict[str, dict[str, Mapping[str, float]]] = {}
        for case in cases:
            region = case.region()
            for reader, scores in classify(model, cut_patch(region, case.native_mask, plan, patch), view).items():
                if not reader or model_hash == best:
                    scored.setdefault(f"{ARM}:{reader}" if reader else ARM, {})[case.key] = scores
            if model_hash == best and case.key in outlines:
                try:
                    found = classify(model, cut_patch(region, outlines[case.key], plan, patch), view)
                except StudyError:
                    found = None
                scored.setdefault(END_TO_END, {})[case.key] = found[""] if found else {}
            on_case()
        if END_TO_END in scored:
            scored[END_TO_END] = say_nothing(scored[END_TO_END])
        truths = {case.key: task.truths(case.labels, view) for case in cases}
        tables += [
            score_table(
                [(key, truths[key], scores) for key, scores in by_case.items()],
                centre=centre,
                arm=arm,
                model_hash=model_hash,
            )
            for arm, by_case in scored.items()
        ]
    return pd.concat(tables, ignore_index=True)


def say_nothing(scored: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Give a case in which nothing was outlined the mean scores of the others: it is not dropped, and tells nothing."""
    known = [scores for scores in scored.values() if scores]
    if not known:
        return {}
    mean = {label: float(np.mean([scores[label] for scores in known])) for label in known[0]}
    return {key: scores or mean for key, scores in scored.items()}
