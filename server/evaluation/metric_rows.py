"""From cases to rows with intervals: the external centre from its per-case table, training sites from their sums.

Every summary of the external centre comes from the task's table in `predictions/` alone, so that it can be computed
again to the same digits.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping

import numpy as np
import pandas as pd

from server.run_folder.predictions import select_cases
from server.run_folder.results import ResultRow, Role
from shared.config.sections import EvaluationConfig
from shared.messages.payload import Sums
from shared.metrics.agreement import LIMITS, as_ratio, icc_a1, spread_grows
from shared.metrics.intervals import Estimate, Statistic, bootstrap_patients, weighted_mean, wilson
from shared.metrics.score_sums import LABELS, SUBTYPES, ClassificationSums
from shared.metrics.sums import Moments, SegmentationSums, pooled_f1
from shared.metrics.tissues import TissueSums
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
    sums_by_site: Mapping[str, Sums],
    config: EvaluationConfig,
    *,
    task: str,
    arm: str,
    seed: int,
    role: Role,
    model_hash: str,
) -> list[ResultRow]:
    """Summarise training sites from the sums they sent, a site each and all together (`centre` is then `all`).

    Intervals are Student's t of a mean over cases, cut where the figure's range ends; what pools counts, and an AUC
    from histograms, has none.
    """
    named = dict(sums_by_site)
    if len(named) > 1:
        named["all"] = functools.reduce(operator.add, sums_by_site.values())
    rows = []
    for centre, sums in named.items():
        common = {"task": task, "arm": arm, "seed": seed, "centre": centre, "role": role, "model_hash": model_hash}
        figures = _figures(sums)
        rows += [
            ResultRow(metric=metric, unit=unit, n=part.n, **_bounds(part, metric, unit, config.confidence), **common)
            if isinstance(part, Moments)
            else ResultRow(metric=metric, unit=unit, value=part, ci_low=None, ci_high=None, n=n, **common)
            for metric, unit, part, n in figures
        ]
    return rows


Figure = tuple[str, str, Moments | float | None, int]
"""Metric, unit, value and the number of cases it rests on."""


def _figures(sums: Sums) -> list[Figure]:
    if isinstance(sums, ClassificationSums):
        return _classified(sums)
    return _outlined(sums) if isinstance(sums, TissueSums) else _segmented(sums)


def _outlined(sums: TissueSums) -> list[Figure]:
    return [
        ("dice_breast", "1", sums.dice_breast, sums.n),
        ("dice_fibroglandular", "1", sums.dice_fibroglandular, sums.n),
        ("mae_density", "%", sums.density_absolute, sums.n),
        ("bias_density", "%", sums.density_error, sums.n),
    ]


def _segmented(sums: SegmentationSums) -> list[Figure]:
    moments = [(metric, unit, getattr(sums, column), sums.n) for metric, (column, unit) in CASE_MEANS.items()]
    return [
        *moments,
        ("volume_bias", "ml", sums.volume_difference_ml, sums.n),
        ("lesion_f1", "1", sums.lesion_f1, sums.n),
        ("failures", "cases", float(sums.failures), sums.n),
    ]


def _classified(sums: ClassificationSums) -> list[Figure]:
    known = [label for label in LABELS if sums.label(label).loss.n]
    figures: list[Figure] = [(f"auc_{label}", "1", sums.auc(label), sums.label(label).loss.n) for label in known]
    if set(known) & set(SUBTYPES):
        figures.append(("auc_macro", "1", sums.macro_auc(), sums.n))
    figures += [(f"log_loss_{label}", "nat", sums.label(label).loss, sums.label(label).loss.n) for label in known]
    if sums.ki67_absolute.n:
        figures.append(("mae_ki67", "%", sums.ki67_absolute, sums.ki67_absolute.n))
        figures.append(("bias_ki67", "%", sums.ki67_error, sums.ki67_error.n))
    return figures


def _bounds(part: Moments, metric: str, unit: str, confidence: float) -> dict[str, float | None]:
    low, high = part.interval(confidence) or (None, None)
    if metric not in {"volume_bias", "bias_ki67", "bias_density"} and low is not None and high is not None:
        low, high = max(0.0, low), (min(1.0, high) if unit == "1" else high)
    return {"value": part.mean, "ci_low": low, "ci_high": high}
