"""Late fusion of the subtype ensemble with radiomics on the external centre's cases, from the stored tables alone.

Its table is its own, `predictions/subtype-fusion.parquet`: no single model made it, and `model_hash` names both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from server.evaluation.classification_rows import COLUMNS, classification_rows
from server.evaluation.external_classification import ARM
from server.run_folder.predictions import read_predictions, write_predictions
from server.run_folder.results import ResultRow
from shared.config.run_config import RunConfig
from shared.config.sections import TaskName
from shared.metrics.score_sums import SUBTYPES

FUSION = "fusion"
TABLE = "subtype-fusion"
PARTS: tuple[TaskName, TaskName] = ("subtype-ensemble", "subtype-radiomics")

_LEAST = 1e-12  # a softmax in float32 may round to 0, and would then overrule whatever the other model says


def fuse(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Fuse two models' subtypes: the mean of their log-probabilities, renormalised over the four.

    That is the geometric mean of the probabilities: logarithmic opinion pooling with equal weights (Genest and Zidek
    1986, Stat Sci 1:114). No weight is fitted: the sites' 18 validation cases in the demo cannot fit one, and no other
    case may choose it. So no threshold is frozen for it either.

    Parameters
    ----------
    first, second
        Long tables of `predictions.score_table`, one model each; other labels than subtypes are passed over.

    Returns
    -------
    Long table of arm `fusion`, of the cases in which both give all four subtypes; `model_hash` is `<first>+<second>`.

    """
    keys = ["case", "patient", "centre", "label", "truth"]
    # Sorted, so that the order of the tables cannot reach the last digit of a sum.
    both = first.merge(second, on=keys, suffixes=("", "_second")).sort_values(["case", "label"], ignore_index=True)
    both = both[both["label"].isin(SUBTYPES)]
    both = both[both.groupby("case")["label"].transform("size") == len(SUBTYPES)]
    scores = both[["score", "score_second"]].to_numpy(np.float64)
    pooled = pd.Series(np.exp(np.log(scores.clip(_LEAST)).mean(axis=1)), both.index)
    fused = both.assign(
        arm=FUSION,
        model_hash=both["model_hash"].astype(str) + "+" + both["model_hash_second"].astype(str),
        score=pooled / pooled.groupby(both["case"]).transform("sum"),
    )
    return fused[list(COLUMNS)].reset_index(drop=True)


def fuse_centre(run_dir: Path, config: RunConfig, chosen: Mapping[TaskName, str]) -> list[ResultRow]:
    """Fuse the chosen models' stored answers in the reference outline, store the table, and return its rows.

    Parameters
    ----------
    run_dir
        The run's folder, with the tables of both tasks.
    config
        Seed and evaluation of the rows, which stand under the ensemble's task as arm `fusion`.
    chosen
        Hash of each task's chosen model. Without both tasks there is nothing to fuse and no row.

    Raises
    ------
    RunError
        A table is missing.

    """
    if not set(PARTS) <= set(chosen):
        return []
    first, second = (_answers(run_dir, name, chosen[name]) for name in PARTS)
    fused = fuse(first, second)
    write_predictions(run_dir, TABLE, fused)
    return classification_rows(
        fused, config.evaluation, task=PARTS[0], seed=config.seed, role="external", thresholds={}
    )


def _answers(run_dir: Path, task: TaskName, model_hash: str) -> pd.DataFrame:
    table = read_predictions(run_dir, task)
    return table[(table["arm"] == ARM) & (table["model_hash"] == model_hash)]
