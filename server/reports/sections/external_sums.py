"""What the page shows of an external centre that evaluated at its own node: figures from sums, one table per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.figure_table import metric_table
from server.run_folder.finished_run import FinishedTask


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
        "fewest": FEWEST,
    }
