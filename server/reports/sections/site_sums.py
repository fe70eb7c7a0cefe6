"""Figures from sums that nodes sent: of the training sites' own cases, and of an external centre with a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.evaluation.modality_fusion import modality_pairs
from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.figure_table import Column, figure_table, metric_table
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_run import FinishedTask
from server.run_folder.results import ResultRow


def external_sums(runs: Sequence[FinishedTask], data: Sequence[ExternalData | None]) -> dict[str, Any] | None:
    """Tables of the chosen models, in the order of training; None where the centre did not evaluate at its own node."""
    if not runs[0].at_node:
        return None
    parts = [
        {
            "title": run.task.title,
            "best_round": run.chosen.best_round,
            "n": one.n if one else 0,
            "table": one and metric_table(run.task.metrics, {"Value": one.own}, run.config.evaluation),
        }
        for run, one in zip(runs, data, strict=True)
    ]
    return {
        "centre": runs[0].config.data.external,
        "parts": parts,
        "scores": any(run.task.scored for run in runs),
        "both": any(modality_pairs(run.task.name for run in runs)),
        "fewest": FEWEST,
    }


def training_sites(run: FinishedTask) -> list[dict[str, Any]]:
    """The chosen model on test cases, then on the validation cases that chose the round; no table without a site."""
    chose = "the round and the thresholds" if run.task.scored else "the round"
    captions = {
        "test": "Test cases, never used to train or to choose: the chosen round's model.",
        "validation": f"Validation cases, which chose {chose}: optimistic.",
    }
    columns = [Column.of(metric) for metric in run.task.metrics if "internal" in metric.shown]
    tables = []
    for role, caption in captions.items():
        sites: dict[str, dict[str, ResultRow]] = {}
        for row in run.results.rows:
            if (row.arm, row.role, row.model_hash) == (FEDERATED, role, run.chosen.best):
                sites.setdefault(row.centre, {})[row.metric] = row
        if sites:
            tables.append({"caption": caption, "table": figure_table("Site", columns, sites)})
    return tables
