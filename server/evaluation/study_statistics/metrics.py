"""What is measured a task: how a figure is read from the cases, and the statistic that sums it up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from server.evaluation.classification_rows import macro_area
from server.evaluation.metric_rows import CASE_MEANS
from server.evaluation.tissue_rows import DENSITIES
from shared.metrics.agreement import LIMITS, icc_a1
from shared.metrics.calibration import Calibration, calibration
from shared.metrics.intervals import Numbers, Statistic, weighted_mean
from shared.metrics.roc import weighted_auc
from shared.metrics.score_sums import KI67, LABELS, SUBTYPES
from shared.metrics.sums import pooled_f1
from shared.types import STRUCTURES

Read = Callable[[pd.DataFrame], Numbers]
"""From a table with a row a case to `(case, column)`; a row with a NaN is a case without the figure."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of a task.

    Attributes
    ----------
    metric, unit
        As in `results.csv`.
    read, statistic
        The figure is `statistic` over the rows that `read` gives without a NaN.
    labels
        Labels it judges, whose classes must not be thin; none in a segmentation, where patients must not be few.
    drawn
        Whether it has a bootstrap interval.
    compared, pooled
        Whether arms are compared by it, and centres pooled.

    """

    metric: str
    unit: str
    read: Read
    statistic: Statistic
    labels: tuple[str, ...] = ()
    drawn: bool = True
    compared: bool = False
    pooled: bool = False

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over cases, so that each case has its own share in a difference."""
        return self.statistic is weighted_mean

    @property
    def is_area(self) -> bool:
        """Whether it is an area under the ROC curve."""
        return self.metric.startswith("auc_")


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """The measures of a task from the columns of its table (one row a case); the first is the task's primary one."""
    if "dice" in table:
        return _segmentation()
    return list(_tissues()) if "dice_breast" in table else list(_classification(table))


def _segmentation() -> list[Measure]:
    def mean(metric: str, *, led: bool = False) -> Measure:
        column, unit = CASE_MEANS[metric]
        return Measure(metric, unit, _columns(column), weighted_mean, compared=led, pooled=led)

    pairs = _columns("volume_ml", "reference_volume_ml")
    lesions = _columns("lesions_tp", "lesions_fp", "lesions_fn")
    return [
        *(mean(metric, led=True) for metric in ("dice", "hd95", "nsd")),
        Measure("lesion_f1", "1", lesions, pooled_f1, compared=True),
        Measure("volume_icc_a1", "1", pairs, icc_a1),
        *(Measure(f"volume_{name}", "ml", pairs, part) for name, part in LIMITS.items()),
        *(mean(metric) for metric in ("centroid_distance", "sensitivity", "ppv", "assd")),
        Measure("failures", "cases", _columns("failed"), _total, drawn=False),
    ]


def _tissues() -> Iterator[Measure]:
    # Breast is easily found; the fibroglandular tissue inside is what arms differ in.
    for structure in reversed(STRUCTURES):
        yield Measure(
            f"dice_{structure}", "1", _columns(f"dice_{structure}"), weighted_mean, compared=True, pooled=True
        )
    for structure in reversed(STRUCTURES):
        yield Measure(f"hd95_{structure}", "mm", _columns(f"hd95_mm_{structure}"), weighted_mean)
        yield Measure(f"nsd_{structure}", "1", _columns(f"nsd_{structure}"), weighted_mean)
    pairs = _columns(*DENSITIES)
    yield Measure("mae_density", "%", _gap(*DENSITIES), weighted_mean)
    for name, part in LIMITS.items():
        yield Measure(f"{name}_density", "%", pairs, part)
    yield Measure("icc_a1_density", "1", pairs, icc_a1)


def _classification(table: pd.DataFrame) -> Iterator[Measure]:
    known = [label for label in LABELS if f"truth_{label}" in table]
    subtypes = tuple(label for label in SUBTYPES if label in known)
    if subtypes:
        yield Measure("auc_macro", "1", _subtypes, macro_area, subtypes, compared=True, pooled=True)
    for label in known:
        columns = _columns(f"truth_{label}", f"score_{label}")
        yield Measure(f"auc_{label}", "1", columns, weighted_auc, (label,), compared=True, pooled=True)
    for label in known:
        yield from _operating(label)
        columns = _columns(f"truth_{label}", f"score_{label}")
        yield Measure(f"prevalence_{label}", "1", columns, weighted_mean, (label,), drawn=False)
        yield Measure(f"brier_{label}", "1", _squares(label), weighted_mean, (label,))
        for metric, name in (("ece", "ece"), ("calibration_slope", "slope"), ("calibration_intercept", "intercept")):
            yield Measure(f"{metric}_{label}", "1", columns, _calibration(name), (label,), drawn=False)
    if f"truth_{KI67}" in table:
        yield Measure("mae_ki67", "%", _gap(f"score_{KI67}", f"truth_{KI67}"), weighted_mean)


def _operating(label: str) -> Iterator[Measure]:
    """Shares at the model's own frozen threshold: of which cases, and which of them are called right."""

    def share(chosen: Callable[[Numbers, Numbers], Numbers], right: float) -> Read:
        def read(table: pd.DataFrame) -> Numbers:
            names = [f"{part}_{label}" for part in ("truth", "score", "threshold")]
            truth, score, threshold = table.reindex(columns=names).to_numpy(np.float64).T
            called = (score >= threshold).astype(np.float64)
            base = (chosen(truth, called) == right).astype(np.float64)
            values = np.stack([base * (truth == called), base], axis=1)
            values[np.isnan(truth + score + threshold)] = np.nan
            return values

        return read

    yield Measure(f"sensitivity_{label}", "1", share(lambda truth, _: truth, 1), _ratio, (label,))
    yield Measure(f"specificity_{label}", "1", share(lambda truth, _: truth, 0), _ratio, (label,))
    yield Measure(f"ppv_{label}", "1", share(lambda _, called: called, 1), _ratio, (label,))
    yield Measure(f"npv_{label}", "1", share(lambda _, called: called, 0), _ratio, (label,))


def _columns(*names: str) -> Read:
    return lambda table: table[list(names)].to_numpy(np.float64)


def _gap(first: str, second: str) -> Read:
    return lambda table: np.abs(_columns(first)(table) - _columns(second)(table))


def _squares(label: str) -> Read:
    return lambda table: np.square(_columns(f"score_{label}")(table) - _columns(f"truth_{label}")(table))


def _subtypes(table: pd.DataFrame) -> Numbers:
    """Truth and score by subtype, as `macro_area` reads them: a truth of -1 where a case lacks one of several."""
    values = table.reindex(columns=[f"{part}_{name}" for name in SUBTYPES for part in ("truth", "score")])
    found = values.to_numpy(np.float64, copy=True)
    partly = np.isfinite(found).any(axis=1)
    found[partly] = np.nan_to_num(found[partly], nan=-1.0)
    return found


def _total(values: Numbers, weights: Numbers) -> Numbers:
    result: Numbers = weights @ values[:, 0]
    return result


def _ratio(values: Numbers, weights: Numbers) -> Numbers:
    result: Numbers = weights @ values[:, 0] / (weights @ values[:, 1])
    return result


def _calibration(name: str) -> Statistic:
    """A figure of the cases as they are: a fit is too slow for every resample."""

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        found = getattr(_fitted(np.ascontiguousarray(values).tobytes()), name)
        return np.full(len(weights), np.nan if found is None else found)

    return statistic


@functools.lru_cache(maxsize=8192)
def _fitted(pairs: bytes) -> Calibration:
    """One fit for its three figures, from the bytes of `(case, 2)`: truth and score."""
    return calibration(*np.frombuffer(pairs).reshape(-1, 2).T)
