"""Table 1: who the patients of each centre were, counted from the cohort; what is missing is counted too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from server.reports.metric_text import DASH, fixed
from server.run_folder.finished_study import FinishedStudy
from shared.cohort.labels import Label

_MOST_LEVELS = 12  # of a free column; the rest is one line
FACTORS = {
    "age_band": "Age, years",
    "density": "Breast density (BI-RADS)",
    "manufacturer": "Manufacturer",
    "field_strength_t": "Field strength, T",
    "size": "Lesion size",
}
"""What figures are stratified by, in words; `size` is by tertiles of the reference's volume."""
_ORDERS = {"age_band": ("<50", "50-69", ">=70")}


def table_1(study: FinishedStudy) -> dict[str, Any]:
    """Lines of heading and levels, one cell for each centre and one for all; percentages are of known values."""
    cohort, titles = study.cohort, study.class_titles
    parts = [cohort[cohort["centre"] == name] for name in study.centres] + [cohort]
    lines = [
        _line("Patients", [str(part["patient"].nunique()) for part in parts], head=True),
        _line("Cases (breasts)", [str(len(part)) for part in parts], head=True),
    ]
    for column, name in FACTORS.items():
        lines += _grouped(name, column, _ORDERS.get(column, ()), parts, titles)
    labels = study.labels.values()
    for label in labels:
        if label.kind != "number":
            lines += _grouped(label.title, label.name, _levels(label), parts, titles)
    lines += _measured("Lesion volume, ml", "reference_volume_ml", 2, parts)
    for label in labels:
        if label.kind == "number":
            name = f"{label.title}, {label.unit}" if label.unit else label.title
            lines += _measured(name, label.name, 1, parts)
    return {"columns": [*study.centres, "all"], "lines": lines}


def _line(name: str, cells: list[str], *, head: bool = False) -> dict[str, Any]:
    return {"name": name, "cells": cells, "head": head}


def _levels(label: Label) -> Sequence[Any]:
    return label.classes if label.kind == "classes" else (True, False)


def _grouped(
    name: str, column: str, order: Sequence[Any], parts: Sequence[pd.DataFrame], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The levels in their order, or sorted; nothing of a column that the cohort lacks or that is empty."""
    known = [_known(part, column) for part in parts]
    levels = [level for level in order or sorted(set(known[-1])) if level in set(known[-1])]
    if not levels:
        return []
    lines = [_line(name, [""] * len(parts), head=True)]
    lines += [
        _line(_level(level, titles), [_share(int((part == level).sum()), len(part)) for part in known])
        for level in levels[:_MOST_LEVELS]
    ]
    if rest := levels[_MOST_LEVELS:]:
        lines.append(_line("other", [_share(int(part.isin(rest).sum()), len(part)) for part in known]))
    return [*lines, *_missing(parts, known)]


def _measured(name: str, column: str, digits: int, parts: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    known = [_known(part, column).astype(float) for part in parts]
    if known[-1].empty:
        return []
    cells = []
    for part in known:
        if part.empty:
            cells.append(DASH)
            continue
        low, middle, high = (fixed(float(part.quantile(share)), digits) for share in (0.25, 0.5, 0.75))
        cells.append(f"{middle} ({low} to {high})")
    lines = [_line(name, [""] * len(parts), head=True), _line("median (quartiles)", cells)]
    return [*lines, *_missing(parts, known)]


def _missing(parts: Sequence[pd.DataFrame], known: Sequence[pd.Series]) -> list[dict[str, Any]]:
    counts = [len(part) - len(kept) for part, kept in zip(parts, known, strict=True)]
    return [_line("missing", [str(count) for count in counts])] if any(counts) else []


def _known(part: pd.DataFrame, column: str) -> pd.Series:
    if column not in part:
        return pd.Series(dtype="float64")
    kept = part[column].dropna()
    return kept[kept.astype(str) != ""]


def _share(count: int, known: int) -> str:
    return f"{count} ({count / known:.0%})" if known else DASH


def _level(level: Any, titles: Mapping[str, str]) -> str:
    if isinstance(level, bool):
        return "positive" if level else "negative"
    if isinstance(level, float):
        return f"{level:g}"
    text = str(level)
    return titles.get(text, text).replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
