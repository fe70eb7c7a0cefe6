"""The training sites' own cases on a page: figures of the chosen model from the sums that each site sent."""

from __future__ import annotations

from typing import Any

from server.reports.sections.figure_table import Column, figure_table
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_run import FinishedTask
from server.run_folder.results import ResultRow


def training_sites(run: FinishedTask) -> list[dict[str, Any]]:
    """Test cases first, then the validation cases that chose the round; nothing of a role that no site answered."""
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
