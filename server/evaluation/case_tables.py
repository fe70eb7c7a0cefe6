"""Per-case tables of the external centre: every model of a task, the chosen one's parts, and its reading end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from server.run_folder.arms import END_TO_END, FEDERATED, reading_arm
from server.run_folder.predictions import case_table
from shared.config.run_config import RunConfig
from shared.evaluation import Arms, evaluate, table_row
from shared.modalities.modality import Plan, PreparedCase
from shared.models.uninitialised import UnsetValues
from shared.preprocessing.cache import pack_mask, unpack_mask
from shared.tasks.task import OWN, Measured, Task

Thresholds = Mapping[str, float | None]
"""A model's operating point of each label, frozen on validation cases; None where there is none."""
Outlines = dict[str, tuple[npt.NDArray[np.uint8], tuple[int, ...]]]
"""By case a packed mask on the study's own grid, and its shape `(z, y, x)`."""


@dataclass(frozen=True, slots=True)
class TrainedModels:
    """A task's models to be evaluated.

    Attributes
    ----------
    models
        State dicts by hash.
    best
        Hash of the model chosen on the training sites' validation cases.
    thresholds
        By model hash.

    """

    models: Mapping[str, Mapping[str, torch.Tensor]]
    best: str
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)


def evaluate_models(
    task: Task,
    trained: TrainedModels,
    cases: Sequence[PreparedCase],
    plan: Plan,
    view: RunConfig,
    outlines: Outlines,
    on_case: Callable[[], None],
) -> pd.DataFrame:
    """The per-case table of a task's models on prepared cases that it can use; see `predictions.case_table`.

    The chosen model's own masks are added to `outlines` where the task gives them; a task that can is also read in
    them. `plan` is that of the task's modality, `view` the configuration as the task sees it; `on_case` is called after
    each case and model.
    """
    centre, rows = str(view.data.external), []
    for model_hash, state in trained.models.items():
        model = load_model(task, view, state)
        best, frozen = model_hash == trained.best, threshold_columns(trained.thresholds.get(model_hash, {}))
        for case, measured in evaluate(task, Arms({FEDERATED: model}), cases, plan, view, on_case=on_case):
            own = measured.get(FEDERATED, Measured({}))
            for reading, row in own.rows.items():
                if reading == OWN:
                    rows.append(table_row(case, centre, FEDERATED, model_hash, row | frozen))
                elif best:
                    rows.append(table_row(case, centre, reading_arm(reading), model_hash, row))
            if best and task.gives_outline and own.masks is not None:
                outlines[case.key] = pack_mask(own.masks[0][0]), own.masks[0][0].shape
        if best and task.reads_outline:
            rows += [
                table_row(case, centre, END_TO_END, model_hash, row | frozen)
                for case, row in _end_to_end(task, model, cases, plan, view, outlines)
            ]
    return case_table(rows)


def load_model(task: Task, view: RunConfig, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The task's network with a model's weights."""
    with UnsetValues():
        model = task.learner.build_model(view)
    model.load_state_dict(dict(state))
    return model


def threshold_columns(thresholds: Thresholds) -> dict[str, float | None]:
    """A model's operating points as columns of the per-case table."""
    return {f"threshold_{label}": value for label, value in thresholds.items()}


def _end_to_end(
    task: Task, model: nn.Module, cases: Sequence[PreparedCase], plan: Plan, view: RunConfig, outlines: Outlines
) -> list[tuple[PreparedCase, dict[str, float | None]]]:
    """Each case in the outline that the federation predicted: only this is what a hospital would get.

    A case in which nothing was outlined gets the mean answer of the others: it is not dropped, and tells nothing.
    """
    reader = task.evaluator
    outlined = [case for case in cases if case.key in outlines]
    answers = [reader.predict(model, case, plan, view, unpack_mask(*outlines[case.key])) for case in outlined]
    known = [answer for answer in answers if answer is not None]
    if not known:
        return []
    mean = reader.average(known)
    return [
        (case, reader.measure(mean if answer is None else answer, case, view, full=True).rows[OWN])
        for case, answer in zip(outlined, answers, strict=True)
    ]
