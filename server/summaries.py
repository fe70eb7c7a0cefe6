"""From cases to rows with intervals: the external centre from its per-case table, training sites from their sums.

Every summary of the external centre comes from `predictions/external.parquet` alone, so that it can be computed again
to the same digits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from server.predictions import select_cases
from server.results import ResultRow, Role
from shared.config import EvaluationConfig
from shared.metrics.agreement import LIMITS, as_ratio, icc_a1, spread_grows
from shared.metrics.counts import Moments, SegmentationSums, pooled_f1
from shared.metrics.intervals import Estimate, Statistic, bootstrap_patients, weighted_mean, wilson
from shared.reproducibility import derive_seed

# Metric of a results row: the case's field and the unit ("1": a share, as in UCUM).
CASE_MEANS: dict[str, tuple[str, str]] = {
    "dice": ("dice", "1"),
    "nsd": ("nsd", "1"),
    "sensitivity": ("sensitivity", "1"),
    "ppv": ("ppv", "1"),
    "hd95": ("hd95_mm", "mm"),
    "assd": ("assd_mm", "mm"),
    "centroid_distance": ("centroid_distance_mm", "mm"),
}


def external_rows(
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

    A figure that a case lacks is left out of its mean; the row's `n` says how many cases it rests on. Means are over
    cases; lesion-wise F1 pools the lesions of all cases. Volume differences are predicted minus reference; when their
    spread grows with size, ratios stand beside them. The interval of `failure_share` is Wilson's.

    Raises
    ------
    RunError
        The table has no case of this arm, centre and model.

    """
    table = select_cases(predictions, arm=arm, centre=centre, model_hash=model_hash)
    draw = derive_seed(seed, "bootstrap", centre)

    def row(metric: str, unit: str, found: Estimate) -> ResultRow:
        bounds = {"value": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}
        return ResultRow(
            task=task, arm=arm, seed=seed, centre=centre, role="external", metric=metric, unit=unit,
            model_hash=model_hash, **bounds,
        )  # fmt: skip

    def estimate(cases: pd.DataFrame, columns: list[str], statistic: Statistic) -> Estimate:
        return bootstrap_patients(
            cases[columns].to_numpy(np.float64),
            cases["patient"].tolist(),
            statistic,
            n=config.bootstrap,
            seed=draw,
            confidence=config.confidence,
            strata=cases["centre"].tolist(),
        )

    rows = [
        row(metric, unit, estimate(table[table[column].notna()], [column], weighted_mean))
        for metric, (column, unit) in CASE_MEANS.items()
    ]
    rows.append(row("lesion_f1", "1", estimate(table, ["lesions_tp", "lesions_fp", "lesions_fn"], pooled_f1)))
    pairs = ["volume_ml", "reference_volume_ml"]
    rows.append(row("volume_icc_a1", "1", estimate(table, pairs, icc_a1)))
    rows += [row(f"volume_{name}", "ml", estimate(table, pairs, part)) for name, part in LIMITS.items()]
    if log_scale(table):
        positive = table[(table[pairs] > 0).all(axis=1)]
        rows += [
            row(f"volume_ratio_{name}", "1", estimate(positive, pairs, as_ratio(part))) for name, part in LIMITS.items()
        ]
    failures = int(table["failed"].sum())
    low, high = wilson(failures, len(table), config.confidence)
    patients = table["patient"].nunique()
    rows.append(row("failure_share", "1", Estimate(failures / len(table), low, high, len(table), patients)))
    for metric, count in (("failures", failures), ("no_overlap", int((table["dice"] == 0).sum()))):
        rows.append(row(metric, "cases", Estimate(float(count), None, None, len(table), patients)))
    return rows


def log_scale(table: pd.DataFrame) -> bool:
    """Say whether volumes are better compared as ratios: their differences spread with size (Bland and Altman 1999)."""
    positive = table[(table["volume_ml"] > 0) & (table["reference_volume_ml"] > 0)]
    return len(positive) >= 3 and spread_grows(positive["volume_ml"], positive["reference_volume_ml"])  # noqa: PLR2004


def internal_rows(
    sums_by_site: Mapping[str, SegmentationSums],
    config: EvaluationConfig,
    *,
    task: str,
    arm: str,
    seed: int,
    role: Role,
    model_hash: str,
) -> list[ResultRow]:
    """Summarise training sites from the sums they sent, a site each and all together (`centre` is then `all`).

    Intervals are Student's t of a mean over cases, cut where the figure's range ends; what pools counts has none.
    """
    everything = sum(sums_by_site.values(), SegmentationSums())
    named = dict(sums_by_site) | ({"all": everything} if len(sums_by_site) > 1 else {})
    rows = []
    for centre, sums in named.items():
        common = {"task": task, "arm": arm, "seed": seed, "centre": centre, "role": role, "model_hash": model_hash}
        moments = {metric: (getattr(sums, column), unit) for metric, (column, unit) in CASE_MEANS.items()}
        moments["volume_bias"] = (sums.volume_difference_ml, "ml")
        rows += [
            ResultRow(metric=metric, unit=unit, n=part.n, **_bounds(part, metric, unit, config.confidence), **common)
            for metric, (part, unit) in moments.items()
        ]
        pooled = (("lesion_f1", "1", sums.lesion_f1), ("failures", "cases", float(sums.failures)))
        rows += [
            ResultRow(metric=metric, unit=unit, value=value, ci_low=None, ci_high=None, n=sums.n, **common)
            for metric, unit, value in pooled
        ]
    return rows


def _bounds(part: Moments, metric: str, unit: str, confidence: float) -> dict[str, float | None]:
    low, high = part.interval(confidence) or (None, None)
    if metric != "volume_bias" and low is not None and high is not None:
        low, high = max(0.0, low), (min(1.0, high) if unit == "1" else high)
    return {"value": part.mean, "ci_low": low, "ci_high": high}
