"""The further tables of a classifier's section: Ki-67, the frozen thresholds, the training sites' own cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.evaluation.external_classification import ARM
from server.reports.sections.classification_data import LABEL_NAMES, OUTLINES, Judged, cell
from server.run_folder.results import ResultRow
from shared.metrics.score_sums import LABELS

_SHARES = ("sensitivity", "specificity", "ppv", "npv", "prevalence")
_KI67 = ("mae_ki67", "mae_ki67_of_mean", "bias_ki67", "limit_low_ki67", "limit_high_ki67")
_ROLES = {
    "test": "Test cases of the training sites, never used to train or to choose.",
    "validation": "Validation cases, which chose the round and the thresholds: optimistic.",
}


def ki67_table(judged: Judged) -> list[dict[str, Any]]:
    """Error and agreement on Ki-67, a line an arm."""
    return [
        {"arm": judged.named(arm), "cells": [cell(rows.get(name)) for name in _KI67], "n": rows["mae_ki67"].n}
        for arm, rows in judged.rows.items()
        if "mae_ki67" in rows
    ]


def threshold_table(judged: Judged) -> list[dict[str, Any]]:
    """Shares at the frozen thresholds, a line a label and outline; rivals have thresholds of their own or none."""
    return [
        {
            "label": LABEL_NAMES[label],
            "few": judged.few(label),
            "arm": shown,
            "cells": [cell(judged.rows[arm].get(f"{name}_{label}")) for name in _SHARES],
        }
        for label in judged.labels
        for arm, shown in OUTLINES.items()
        if f"prevalence_{label}" in judged.rows.get(arm, {})
    ]


def site_tables(rows: Sequence[ResultRow], best: str) -> list[dict[str, Any]]:
    """Training sites' figures of the chosen model from their histograms, a table a role."""
    tables = []
    for role, caption in _ROLES.items():
        sites: dict[str, dict[str, ResultRow]] = {}
        for row in rows:
            if (row.role, row.arm, row.model_hash) == (role, ARM, best):
                sites.setdefault(row.centre, {})[row.metric] = row
        named = [(f"auc_{name}", f"{LABEL_NAMES[name]}, AUC") for name in (*LABELS, "macro")]
        named.append(("mae_ki67", "Ki-67, mean error, %"))
        columns = {key: text for key, text in named if any(key in found for found in sites.values())}
        if not columns:
            continue
        lines = [
            {"site": site, "cells": [cell(found.get(key)) for key in columns], "total": site == "all"}
            for site, found in sites.items()
        ]
        tables.append({"caption": caption, "columns": list(columns.values()), "lines": lines})
    return tables
