"""Exploratory subgroups: whether federation helps old scanners, dense breasts and small lesions alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from server.evaluation.study_statistics.contrasts import contrast
from server.evaluation.study_statistics.estimates import figure_of
from server.evaluation.study_statistics.resamples import Panel
from server.run_folder.arms import FEDERATED, LOCAL
from shared.errors import RunError
from shared.metrics.metric import Metric
from shared.metrics.multiple_testing import adjust_p_values

Flags = npt.NDArray[np.bool_]
UNKNOWN = "unknown"
_AGES = ("<50", "50-69", ">=70")
_FINEST = 6  # decimals of a bound


def subgroup_rows(panel: Panel, metric: Metric, cohort: pd.DataFrame, confidence: float) -> list[dict[str, object]]:
    """Rows of one task's subgroups, without the task: arms `federated` and `local`, by factor and level.

    The test of a difference stands in the federated row; Benjamini and Hochberg's family is every test here. A factor
    of which every case has the same level makes no subgroups.

    `cohort` has one row for each case with the factors; see `levels`.

    Raises
    ------
    RunError
        A case stands twice in the cohort.

    """
    if cohort["case"].duplicated().any():
        raise RunError("the study's cohort lists a case twice")
    described = panel.cases[["case"]].merge(cohort, on="case", how="left")
    samples = {arm: panel.samples(metric, arm) for arm in (FEDERATED, LOCAL)}
    rows = []
    for factor, level, keep in levels(described):
        tested = contrast(panel, metric, samples[FEDERATED], samples[LOCAL], keep, confidence)
        for arm, mine in samples.items():
            figure = figure_of(panel, metric, [sample.only(keep) for sample in mine])
            if figure is None:
                continue
            row: dict[str, object] = {"metric": metric.name, "arm": arm, "factor": factor, "level": level}
            row |= figure.row(confidence)
            if tested and arm == FEDERATED:
                difference, p = tested
                low, high = difference.interval(confidence)
                row |= {"difference": difference.value, "difference_low": low, "difference_high": high, "p": p}
            rows.append(row)
    family = adjust_p_values(np.array([row.get("p", np.nan) for row in rows], np.float64), "fdr_bh")
    return [row | {"p_bh": p} for row, p in zip(rows, family.tolist(), strict=True)]


def levels(cases: pd.DataFrame) -> Iterator[tuple[str, str, Flags]]:
    """Factor, level and which cases have it: levels in their natural order, `unknown` last.

    `size` is by tertiles of `reference_volume_ml` over these very cases; a level is named by its bounds. Field
    strengths are named in tesla with one decimal. A factor with a single level is left out.
    """
    size, sizes = _tertiles(_numbers(cases, "reference_volume_ml"))
    factors = {
        "manufacturer": (_text(cases, "manufacturer"), ()),
        "field_strength_t": (_numbers(cases, "field_strength_t").map("{:.1f}".format, na_action="ignore"), ()),
        "density": (_text(cases, "density"), ()),
        "age_band": (_text(cases, "age_band"), _AGES),
        "size": (size, sizes),
    }
    for factor, (column, order) in factors.items():
        known = set(column.dropna())
        names = [*(name for name in order if name in known), *sorted(known - {*order})]
        names += [UNKNOWN] if column.isna().any() else []
        if len(names) > 1:
            named = column.fillna(UNKNOWN)
            yield from ((factor, name, np.asarray(named == name)) for name in names)


def _tertiles(volumes: pd.Series[float]) -> tuple[pd.Series[str], tuple[str, ...]]:
    """Level of each case, and the levels from small to large."""
    if not volumes.notna().any():
        return volumes.astype("str").where(volumes.notna()), ()
    bounds = np.quantile(volumes.dropna(), [0, 1 / 3, 2 / 3, 1]).tolist()
    # As few decimals as tell the bounds apart.
    digits = next((d for d in range(1, _FINEST) if len({f"{x:.{d}f}" for x in bounds}) == len({*bounds})), _FINEST)
    names = tuple(f"{low:.{digits}f}-{high:.{digits}f} ml" for low, high in itertools.pairwise(bounds))
    third = np.searchsorted(bounds[1:3], volumes.fillna(0.0), side="left")
    level = pd.Series(np.array(names)[third], index=volumes.index, dtype="str")
    return level.where(volumes.notna()), names


def _text(cases: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column's texts; absent where it is empty or there is no such column."""
    column = cases[name] if name in cases else pd.Series(np.nan, index=cases.index)
    text = column.astype("str").where(column.notna())
    return text.where(text != "")


def _numbers(cases: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column's numbers; absent where it is empty or there is no such column."""
    column = cases[name] if name in cases else pd.Series(np.nan, index=cases.index)
    return pd.to_numeric(column, errors="coerce").astype("float64")
