"""All arms of a fold on the same cases: the centre left out, and the training centres' own test cases.

The ensemble is the mean of what the fold's local models predict: probabilities before the threshold, or scores. A local
model whose site has no case with a label does not answer for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from server.run_folder.predictions import prediction_table, score_table, tissue_table
from server.studies.design import ENSEMBLE, LOCAL
from shared.config.run_config import RunConfig
from shared.inference import classify, judge_outline, predict, predict_structures, tissue_masks
from shared.metrics.tissues import tissue_metrics, tissue_surfaces
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.plan import Plan
from shared.preprocessing.tissues import native_tissues
from shared.tasks import task_named
from shared.types import FloatArray


@dataclass(frozen=True, slots=True)
class Judged:
    """Models of a fold, task and seed.

    Attributes
    ----------
    models, hashes
        By arm; the ensemble has the hash of its members' hashes.
    answers
        Classification: labels that each local arm has seen in training; other arms answer all.
    ensemble
        Whether the local models' mean is an arm too.

    """

    models: Mapping[str, nn.Module]
    hashes: Mapping[str, str]
    answers: Mapping[str, frozenset[str]]
    ensemble: bool

    @property
    def local(self) -> list[str]:
        """The local arms."""
        return [arm for arm in self.models if arm.startswith(LOCAL)]


def judge_cases(
    judged: Judged,
    cases: Sequence[CachedCase],
    view: RunConfig,
    plan: Plan,
    centre: str,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """The per-case table of one centre's cases, all arms; its columns are those of `server.run_folder.predictions`.

    Parameters
    ----------
    judged
        The arms' models.
    cases
        Prepared cases that the task can use.
    view, plan
        The fold's configuration as the task sees it, and its plan.
    centre
        Where the cases lie.
    on_case
        Called after each case.

    """
    kind = task_named(view.task).kind
    if kind == "classification":
        return _scores(judged, cases, view, plan, centre, on_case)
    read = predict if kind == "segmentation" else predict_structures
    found: dict[str, list[tuple[str, Any]]] = {}
    for case in cases:
        probabilities = {arm: read(model, case.image, view) for arm, model in judged.models.items()}
        if judged.ensemble:
            probabilities[ENSEMBLE] = np.mean([probabilities[arm] for arm in judged.local], axis=0, dtype=np.float32)
        for arm, probability in probabilities.items():
            if kind == "segmentation":
                found.setdefault(arm, []).append((case.key, judge_outline(probability, case, view)[0]))
            else:
                found.setdefault(arm, []).append((case.key, _tissues(probability, case, view)))
        on_case()
    table = prediction_table if kind == "segmentation" else tissue_table
    parts = [table(items, centre=centre, arm=arm, model_hash=judged.hashes[arm]) for arm, items in found.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _tissues(probability: FloatArray, case: CachedCase, view: RunConfig) -> dict[str, float | None]:
    predicted, reference = tissue_masks(probability, case, view), native_tissues(case)
    spacing = case.native_grid.spacing
    surfaces = tissue_surfaces(predicted, reference, spacing, nsd_tolerance_mm=view.evaluation.nsd_tolerance_mm)
    return tissue_metrics(predicted, reference, spacing).to_dict() | surfaces


def _scores(
    judged: Judged,
    cases: Sequence[CachedCase],
    view: RunConfig,
    plan: Plan,
    centre: str,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    task = task_named(view.task)
    opened = {item.key: item for item in task.open(cases, plan, view)}
    found: dict[str, list[tuple[str, Mapping[str, float], Mapping[str, float]]]] = {}
    for case in cases:
        truths = task.truths(case.labels, view)
        scores = {arm: classify(model, opened[case.key].patch, view)[""] for arm, model in judged.models.items()}
        for arm, labels in judged.answers.items():
            scores[arm] = {label: value for label, value in scores[arm].items() if label in labels}
        if judged.ensemble:
            members = {label: [scores[arm][label] for arm in judged.local if label in scores[arm]] for label in truths}
            scores[ENSEMBLE] = {label: float(np.mean(values)) for label, values in members.items() if values}
        for arm, answered in scores.items():
            known = {label: truth for label, truth in truths.items() if label in answered}
            found.setdefault(arm, []).append((case.key, known, answered))
        on_case()
    parts = [score_table(items, centre=centre, arm=arm, model_hash=judged.hashes[arm]) for arm, items in found.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
