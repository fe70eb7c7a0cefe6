"""From cases with outlined tissues to rows with intervals: overlap a structure, and how well densities agree."""

from __future__ import annotations

import numpy as np
import pandas as pd

from server.evaluation.classification_rows import Draw
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.metrics.agreement import LIMITS, icc_a1
from shared.metrics.intervals import Numbers, Statistic, mean_deviation, weighted_mean
from shared.reproducibility import derive_seed
from shared.types import STRUCTURES

DENSITIES = ["density_percent", "reference_density_percent"]

# Metric of a results row: the table's column and the unit.
_MEANS: dict[str, tuple[str, str]] = {
    f"{metric}_{structure}": (f"{column}_{structure}", unit)
    for metric, column, unit in (("dice", "dice", "1"), ("hd95", "hd95_mm", "mm"), ("nsd", "nsd", "1"))
    for structure in STRUCTURES
}


def tissue_rows(
    predictions: pd.DataFrame,
    config: EvaluationConfig,
    *,
    task: str,
    arm: str,
    seed: int,
    centre: str,
    model_hash: str,
) -> list[ResultRow]:
    """Summarise the external centre from the per-case table, each figure with a patient bootstrap.

    Figures of structures are means over the cases that have them. Density is in percent, so its errors are in
    percentage points: their mean size (`mae_density`), their mean (`bias_density`, predicted minus reference) with the
    95% limits of agreement (Bland and Altman), and the absolute-agreement correlation. `mae_density_of_mean` is the
    error of always answering the mean of these very cases: the floor to beat. Without a case there are no rows.
    """
    named = predictions[["arm", "centre", "model_hash"]].eq([arm, centre, model_hash]).all(axis=1)
    table = predictions[named].sort_values("case")
    draw = Draw(config, derive_seed(seed, "bootstrap", centre))
    dense = table[table[DENSITIES].notna().all(axis=1)]
    pairs = dense[DENSITIES].to_numpy(np.float64)
    figures: list[tuple[str, str, pd.DataFrame, Numbers, Statistic]] = []
    for metric, (column, unit) in _MEANS.items():
        known = table[table[column].notna()]
        figures.append((metric, unit, known, known[[column]].to_numpy(np.float64), weighted_mean))
    figures.append(("mae_density", "%", dense, np.abs(pairs[:, :1] - pairs[:, 1:]), weighted_mean))
    figures.append(("mae_density_of_mean", "%", dense, pairs[:, 1:], mean_deviation))
    figures += [(f"{name}_density", "%", dense, pairs, statistic) for name, statistic in LIMITS.items()]
    figures.append(("icc_a1_density", "1", dense, pairs, icc_a1))
    rows = []
    for metric, unit, cases, values, statistic in figures if len(table) else []:
        found = draw(cases, values, statistic)
        rows.append(
            ResultRow(
                task=task, arm=arm, seed=seed, centre=centre, role="external", metric=metric, unit=unit,
                value=found.value, ci_low=found.low, ci_high=found.high, n=found.n, model_hash=model_hash,
            )
        )  # fmt: skip
    return rows
