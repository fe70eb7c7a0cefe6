"""Late fusion of MRI and mammography at the external centre: breasts that models of both answered, by stored tables.

A pair's table is its own, `predictions/<task>-and-<task>.parquet`. In it stand, on the same breasts, each model alone
and their fusion, so that a difference is one of models and not of cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from server.evaluation.late_fusion import pooled
from server.evaluation.metric_rows import table_rows
from server.run_folder.arms import FUSION, both_arm
from server.run_folder.predictions import WHO, write_predictions
from server.run_folder.results import ResultRow
from shared.cohort.labels import Label
from shared.cohort.site_folder import patient_of
from shared.config.run_config import RunConfig
from shared.tasks import task_named
from shared.tasks.task import Task


def pair_name(first: str, second: str) -> str:
    """Name of the table of two tasks."""
    return f"{first}-and-{second}"


def modality_pairs(names: Iterable[str]) -> Iterator[tuple[Task, Task, list[Label]]]:
    """Pairs of tasks that read different modalities, with the labels of one name that both score; without rivals."""
    tasks = [task for task in map(task_named, names) if not task.rival_of]
    for first, second in combinations(tasks, 2):
        theirs = {label.name for label in second.scored}
        common = [label for label in first.scored if label.name in theirs]
        if common and first.modality != second.modality:
            yield first, second, common


def shared_breasts(
    first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[Label]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Match two models' answers by breast: patient and side, as each modality is an exam of its own.

    Returned are the breasts with one answer of each and the same truths, sorted, the second's columns ending in
    `_second`; and how many breasts are left out, by reason.
    """
    truths = [f"truth_{label.name}" for label in labels]
    one, other = (_by_breast(table, labels) for table in (first, second))
    several = set(one["case"][one["case"].duplicated()]) | set(other["case"][other["case"].duplicated()])
    both = one.merge(other, on=["case", "patient", "centre"], suffixes=("", "_second"))
    both = both[~both["case"].isin(several)].sort_values("case", ignore_index=True)
    same = (both[truths].to_numpy() == both[[f"{name}_second" for name in truths]].to_numpy()).all(axis=1)
    counts = {
        "that only one answered": len(set(one["case"]) ^ set(other["case"])),
        "with several exams of one modality": len(several & set(one["case"]) & set(other["case"])),
        "whose labels differ between the modalities": int((~same).sum()),
    }
    return both[same].reset_index(drop=True), counts


def fuse_pair(first: pd.DataFrame, second: pd.DataFrame, pair: tuple[Task, Task, list[Label]]) -> pd.DataFrame:
    """Each model alone and their fusion on the breasts that both answered: three arms, `arms.both_arm`.

    The fused score of a label is the mean of both models' log-probabilities, renormalised over positive and negative:
    the mean of log odds, logarithmic opinion pooling with equal weights (Genest and Zidek 1986, Stat Sci 1:114). No
    weight is fitted: only validation cases may fit one, few of them have both modalities, and the external centre's
    cases may choose nothing. So no threshold is frozen for it either.
    """
    one, other, labels = pair
    both, _ = shared_breasts(first, second, labels)
    truths, scores = ([f"{part}_{label.name}" for label in labels] for part in ("truth", "score"))
    parts = [both, both.assign(**{name: both[f"{name}_second"] for name in ("model_hash", *scores)})]
    positive = np.stack([part[scores].to_numpy(np.float64) for part in parts])
    fused = pooled(np.stack([1 - positive, positive], axis=-1))[..., 1]
    hashes = both["model_hash"].astype(str) + "+" + both["model_hash_second"].astype(str)
    parts.append(both.assign(model_hash=hashes, **dict(zip(scores, fused.T, strict=True))))
    arms = [both_arm(other.name, who) for who in (one.modality, other.modality, FUSION)]
    table = [part.assign(arm=arm)[[*WHO, *truths, *scores]] for part, arm in zip(parts, arms, strict=True)]
    return pd.concat(table, ignore_index=True)


def fuse_modalities(run_dir: Path, config: RunConfig, answers: Mapping[str, pd.DataFrame]) -> list[ResultRow]:
    """Fuse the tasks of the run that share a label across modalities; store the tables, and return their rows.

    `answers` holds, by task, the chosen model's table in the reference outline. The rows stand under a pair's first
    task.
    """
    rows: list[ResultRow] = []
    for pair in modality_pairs(answers):
        task, other, _ = pair
        table = fuse_pair(answers[task.name], answers[other.name], pair)
        write_predictions(run_dir, pair_name(task.name, other.name), table)
        rows += table_rows(table, task.metrics, config.evaluation, task=task.name, seed=config.seed, role="external")
    return rows


def _by_breast(table: pd.DataFrame, labels: Sequence[Label]) -> pd.DataFrame:
    """The answers to all of the labels, each exam named by its breast: `<site>-<patient>-both-<L|R>`."""
    columns = [f"{part}_{label.name}" for label in labels for part in ("truth", "score")]
    # A centre without a case of the task has a table without the task's columns.
    known = table.reindex(columns=["case", "patient", "centre", "model_hash", *columns]).dropna()
    return known.assign(case=known["case"].map(lambda case: f"{patient_of(case)}-both-{case[-1]}"))
