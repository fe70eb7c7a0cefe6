"""The per-case tables of the external centre, one a task: pseudonymous, the source of every summary.

A segmentation has one row a case and model, a classification one row a case, model, arm and label.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from server.run_folder.results import replace_file
from shared.errors import RunError
from shared.metrics.overlap import CaseMetrics
from shared.types import STRUCTURES

FOLDER = Path("predictions")


def prediction_table(
    judged: Iterable[tuple[str, CaseMetrics]], *, centre: str, arm: str, model_hash: str
) -> pd.DataFrame:
    """Table of judged cases, one row a case, sorted by case.

    Parameters
    ----------
    judged
        Case key `<site>-<patient>-<exam>-<L|R>` and its metrics.
    centre, arm, model_hash
        Who was judged and by which model; part of every row.

    """
    rows = [
        {"case": key, "patient": key.rsplit("-", 2)[0], "centre": centre, "arm": arm, "model_hash": model_hash}
        | case.to_dict()
        | {"failed": case.failed}
        for key, case in judged
    ]
    table = pd.DataFrame(rows)
    # An optional figure that is missing in every case would otherwise become a column of objects.
    optional = ["sensitivity", "ppv", "hd95_mm", "assd_mm", "centroid_distance_mm"]
    return table.astype(dict.fromkeys(optional, "float64")).sort_values("case", ignore_index=True)


def tissue_table(
    judged: Iterable[tuple[str, dict[str, float | None]]], *, centre: str, arm: str, model_hash: str
) -> pd.DataFrame:
    """Table of cases with outlined tissues, one row a case, sorted by case; empty without any.

    Parameters
    ----------
    judged
        Case key and figures: those of `metrics.tissues`, by structure, and both densities in percent.
    centre, arm, model_hash
        As `prediction_table`.

    """
    names = ("dice", "hd95_mm", "nsd", "volume_ml", "reference_volume_ml")
    figures = [f"{name}_{structure}" for name in names for structure in STRUCTURES]
    figures += ["density_percent", "reference_density_percent"]
    rows = [
        {"case": key, "patient": key.rsplit("-", 2)[0], "centre": centre, "arm": arm, "model_hash": model_hash} | case
        for key, case in judged
    ]
    table = pd.DataFrame(rows, columns=["case", "patient", "centre", "arm", "model_hash", *figures])
    return table.astype(dict.fromkeys(figures, "float64")).sort_values("case", ignore_index=True)


def score_table(
    scored: Iterable[tuple[str, Mapping[str, float], Mapping[str, float]]], *, centre: str, arm: str, model_hash: str
) -> pd.DataFrame:
    """Long table of classified cases, one row a case and label that the case has.

    Parameters
    ----------
    scored
        Case key, truth by label, score by label.
    centre, arm, model_hash
        As `prediction_table`.

    """
    rows = [
        {
            "case": key,
            "patient": key.rsplit("-", 2)[0],
            "centre": centre,
            "arm": arm,
            "model_hash": model_hash,
            "label": label,
            "truth": float(truth),
            "score": float(scores[label]),
        }
        for key, truths, scores in scored
        for label, truth in truths.items()
    ]
    columns = ["case", "patient", "centre", "arm", "model_hash", "label", "truth", "score"]
    return pd.DataFrame(rows, columns=columns).sort_values(["case", "label"], ignore_index=True)


def predictions_path(task: str) -> Path:
    """File of a task's table, below the run's folder."""
    return FOLDER / f"{task}.parquet"


def write_predictions(run_dir: Path, task: str, table: pd.DataFrame) -> None:
    """Write a task's table atomically."""
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    replace_file(run_dir / predictions_path(task), content.getvalue())


def read_predictions(run_dir: Path, task: str) -> pd.DataFrame:
    """Read a task's table.

    Raises
    ------
    RunError
        The file is absent or not a parquet file.

    """
    try:
        return pd.read_parquet(run_dir / predictions_path(task))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{run_dir.name}/{predictions_path(task)} cannot be read: was the external centre judged?"
        ) from error


def select_cases(predictions: pd.DataFrame, *, arm: str, centre: str, model_hash: str) -> pd.DataFrame:
    """One model's cases of one centre.

    Raises
    ------
    RunError
        There are none.

    """
    chosen = predictions[
        (predictions["arm"] == arm) & (predictions["centre"] == centre) & (predictions["model_hash"] == model_hash)
    ]
    if chosen.empty:
        raise RunError(f"no predictions of arm '{arm}' at centre '{centre}' by model {model_hash[:12]}")
    return chosen.reset_index(drop=True)
