"""The per-case tables of evaluated cases, one for each task: pseudonymous, the source of every summary.

One row for each case, arm and model; behind who it is about, the columns that the task's metrics read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from server.run_folder.results import write_parquet
from shared.errors import RunError

FOLDER = Path("predictions")
WHO = ("case", "patient", "centre", "arm", "model_hash")
"""Columns that say whose case, and which arm and model answered; a case is `<site>-<patient>-<exam>-<L|R>`."""


def case_table(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Table of `evaluation.table_row`, sorted, so that the order of evaluation cannot reach the last digit of a sum."""
    table = pd.DataFrame(list(rows))
    if table.empty:
        return pd.DataFrame(columns=list(WHO))
    figures = [name for name in table if name not in WHO]
    # A figure that is missing in every case would otherwise become a column of objects.
    return table.astype(dict.fromkeys(figures, "float64")).sort_values(["arm", "model_hash", "case"], ignore_index=True)


def predictions_path(task: str) -> Path:
    """File of a task's table, below the run's folder."""
    return FOLDER / f"{task}.parquet"


def write_predictions(run_dir: Path, task: str, table: pd.DataFrame) -> None:
    """Write a task's table atomically."""
    write_parquet(run_dir / predictions_path(task), table)


def read_predictions(run_dir: Path, task: str) -> pd.DataFrame:
    """Read a task's table.

    `RunError` where the file is absent or not a parquet file, or holds a table of an earlier format.
    """
    try:
        table = pd.read_parquet(run_dir / predictions_path(task))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{run_dir.name}/{predictions_path(task)} cannot be read: was the external centre evaluated?"
        ) from error
    check_table(table)
    return table


def check_table(table: pd.DataFrame) -> None:
    """Refuse what is not such a table.

    `RunError` where a column is missing, a cell that says whose row it is is empty, a figure is infinite, an arm's
    model answers a case twice, or a case has two patients, centres or truths; the message names no case.
    """
    if missing := set(WHO) - set(table.columns):
        raise RunError(f"the per-case table lacks {', '.join(sorted(missing))}")
    if table[list(WHO)].isna().to_numpy().any():
        raise RunError(f"the per-case table has an empty cell in {', '.join(WHO)}")
    if np.isinf(table.select_dtypes("number").to_numpy(np.float64)).any():
        raise RunError("the per-case table holds a figure that is not finite")
    if table.duplicated(["arm", "centre", "model_hash", "case"]).any():
        raise RunError("the per-case table holds one model's answer for one case twice")
    truths = [("case", name) for name in table if str(name).startswith("truth_")]
    for unit, column in (("case", "patient"), ("patient", "centre"), *truths):
        if table[[unit, column]].dropna().drop_duplicates().duplicated(unit).any():
            raise RunError(f"the per-case table holds two values of '{column}' for one {unit}")
