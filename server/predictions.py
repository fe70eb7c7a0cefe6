"""The per-case table of the external centre: pseudonymous, one row a case and model, the source of every summary."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from server.results import replace_file
from shared.errors import RunError
from shared.metrics.overlap import CaseMetrics

PREDICTIONS = Path("predictions") / "external.parquet"


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


def write_predictions(run_dir: Path, table: pd.DataFrame) -> None:
    """Write `predictions/external.parquet` atomically."""
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    replace_file(run_dir / PREDICTIONS, content.getvalue())


def read_predictions(run_dir: Path) -> pd.DataFrame:
    """Read `predictions/external.parquet`.

    Raises
    ------
    RunError
        The file is absent or not a parquet file.

    """
    try:
        return pd.read_parquet(run_dir / PREDICTIONS)
    except (OSError, ValueError) as error:
        raise RunError(f"{run_dir.name}/{PREDICTIONS} cannot be read: was the external centre judged?") from error


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
