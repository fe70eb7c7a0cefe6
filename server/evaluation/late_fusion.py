"""Late fusion of a task with its rival on the external centre's cases, from the stored tables alone.

Its table is its own, `predictions/<task>-fusion.parquet`: no single model made it, and `model_hash` names both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from server.evaluation.metric_rows import table_rows
from server.run_folder.arms import FUSION
from server.run_folder.predictions import WHO, write_predictions
from server.run_folder.results import ResultRow
from shared.config.run_config import RunConfig
from shared.metrics.intervals import Numbers
from shared.tasks import task_named

_LEAST = 1e-12  # a softmax in float32 may round to 0, and would then overrule whatever the other model says


def fusion_table(task: str) -> str:
    """Name of the table of a task and its rival."""
    return f"{task}-fusion"


def pooled(answers: Numbers) -> Numbers:
    """Mean of the models' log-probabilities `(model, ..., class)`, renormalised over the classes."""
    mean = np.exp(np.log(answers.clip(_LEAST)).mean(axis=0))
    result: Numbers = mean / mean.sum(axis=-1, keepdims=True)
    return result


def fuse(first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Fuse two models' answers: the mean of their log-probabilities, renormalised over the labels of which one is true.

    That is the geometric mean of the probabilities: logarithmic opinion pooling with equal weights (Genest and Zidek
    1986, Stat Sci 1:114). No weight is fitted: the sites' 18 validation cases in the demo cannot fit one, and no other
    case may choose it. So no threshold is frozen for it either.

    Of two per-case tables, one model each, comes one of arm `fusion`, of the cases in which both give all labels;
    `model_hash` is `<first>+<second>`.
    """
    truths, scores = ([f"{part}_{label}" for label in labels] for part in ("truth", "score"))
    keys = ["case", "patient", "centre", *truths]
    columns = [*keys, "model_hash", *scores]
    # A centre without a case of the task has a table without the task's columns.
    both = first.reindex(columns=columns).merge(second.reindex(columns=columns), on=keys, suffixes=("", "_second"))
    # Sorted, so that the order of the tables cannot reach the last digit of a sum.
    both = both.dropna().sort_values("case", ignore_index=True)
    answers = np.stack([both[scores].to_numpy(), both[[f"{name}_second" for name in scores]].to_numpy()])
    hashes = both["model_hash"].astype(str) + "+" + both["model_hash_second"].astype(str)
    fused = both.assign(arm=FUSION, model_hash=hashes, **dict(zip(scores, pooled(answers).T, strict=True)))
    return fused[[*WHO, *truths, *scores]]


def fuse_rivals(run_dir: Path, config: RunConfig, answers: Mapping[str, pd.DataFrame]) -> list[ResultRow]:
    """Fuse each task of the run with its rival, where that asks for it; store the tables, and return their rows.

    `answers` holds, by task, the chosen model's table in the reference outline. The rows stand under the task as arm
    `fusion`.
    """
    rows: list[ResultRow] = []
    for name in answers:
        rival = task_named(name)
        if rival.fused and rival.rival_of in answers:
            task = task_named(rival.rival_of)
            fused = fuse(answers[task.name], answers[name], [label.name for label in task.scored])
            write_predictions(run_dir, fusion_table(task.name), fused)
            rows += table_rows(
                fused, task.metrics, config.evaluation, task=task.name, seed=config.seed, role="external"
            )
    return rows
