"""Table 1: who the patients of each centre were, counted from the cohort; what is missing is counted too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from server.reports.metric_text import DASH, fixed
from server.reports.sections.classification_data import LABEL_NAMES
from server.reports.study.study_reader import Study

_MOST_LEVELS = 12  # of a free column; the rest is one line
_GROUPED = {
    "age_band": ("Age, years", ("<50", "50-69", ">=70")),
    "density": ("Breast density (BI-RADS)", ("a", "b", "c", "d")),
    "manufacturer": ("Vendor", ()),
    "field_strength_t": ("Field strength, T", ()),
    "subtype": ("Molecular subtype", ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")),
    "er": ("ER", (True, False)),
    "pr": ("PR", (True, False)),
    "her2": ("HER2", (True, False)),
    "malignant": ("Malignant", (True, False)),
}
_MEASURED = {"reference_volume_ml": ("Lesion volume, ml", 2), "ki67_percent": ("Ki-67, %", 1)}


def table_1(study: Study) -> dict[str, Any]:
    """Lines of heading and levels, a cell a centre and one for all; percentages are of cases with a known value."""
    cohort = study.cohort
    parts = [cohort[cohort["centre"] == name] for name in study.centres] + [cohort]
    lines = [
        _line("Patients", [str(part["patient"].nunique()) for part in parts], head=True),
        _line("Cases (breasts)", [str(len(part)) for part in parts], head=True),
    ]
    for column, (name, levels) in _GROUPED.items():
        if column in cohort.columns:
            lines += _grouped(name, column, levels, parts)
    for column, (name, digits) in _MEASURED.items():
        if column in cohort.columns:
            lines += _measured(name, column, digits, parts)
    return {"columns": [*study.centres, "all"], "lines": lines}


def _line(name: str, cells: list[str], *, head: bool = False) -> dict[str, Any]:
    return {"name": name, "cells": cells, "head": head}


def _grouped(name: str, column: str, levels: Sequence[Any], parts: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    known = [_known(part[column]) for part in parts]
    found = sorted(set(known[-1])) if not levels else [level for level in levels if level in set(known[-1])]
    if not found:
        return []
    lines = [_line(name, [""] * len(parts), head=True)]
    lines += [
        _line(_level(level), [_share(int((part == level).sum()), len(part)) for part in known])
        for level in found[:_MOST_LEVELS]
    ]
    if rest := found[_MOST_LEVELS:]:
        lines.append(_line("other", [_share(int(part.isin(rest).sum()), len(part)) for part in known]))
    return [*lines, *_missing(parts, known)]


def _measured(name: str, column: str, digits: int, parts: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    known = [_known(part[column]).astype(float) for part in parts]
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


def _known(values: pd.Series) -> pd.Series:
    kept = values[values.notna()]
    return kept[kept.astype(str) != ""]


def _share(count: int, known: int) -> str:
    return f"{count} ({count / known:.0%})" if known else DASH


def _level(level: Any) -> str:
    if isinstance(level, bool):
        return "positive" if level else "negative"
    if isinstance(level, float):
        return f"{level:g}"
    text = str(level)
    return LABEL_NAMES.get(text, text).replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
