"""Where a network looks, on a page: from the run folder's stored saliency alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from server.evaluation.explain_cases import read_cases, read_table
from server.evaluation.saliency import DIFFERENCE, LEARNT, saliency_summary
from server.reports.figures.saliency import saliency_by_region, saliency_panel
from server.reports.metric_text import fixed
from server.run_folder.finished_run import FinishedTask
from shared.tasks.explanation import Explanation, class_titles

READER = "volume"
"""Whose regions are drawn: it sees the whole patch, as the ensemble, whose planes cross in the lesion, does not."""


def saliency(run: FinishedTask, how: Explanation) -> dict[str, Any] | None:
    """Figures, the difference between classes as a number, and one map per class; None where nothing was explained."""
    tables = read_table(run.path, how)
    if not tables:
        return None
    summary = saliency_summary(tables["trained"], run.config.evaluation, run.config.seed, untrained=tables["untrained"])
    rows = {row["subtype"]: row for row in summary[summary["reader"] == READER].to_dict("records")}
    differences = {
        key: {part: fixed(row[part], 2) for part in ("value", "low", "high")} | {"n": row["n"]}
        for key, row in (("difference", rows[DIFFERENCE]), ("learnt", rows[LEARNT]))
    }
    classes = class_titles(run.task.scored)
    return differences | {
        "compared": DIFFERENCE.replace("_", " "),
        "citation": run.task.card.citation,
        "reader": READER,
        "svg": saliency_by_region(summary, classes, reader=READER, name=f"{run.task.name}-regions"),
        "maps": [
            saliency_panel(
                np.asarray(one.arrays["patch"], np.float32),
                np.asarray(one.arrays["saliency"], np.float32),
                title=classes[one.name],
                probability=one.probability,
                name=f"{run.task.name}-map-{one.name}",
            )
            for one in read_cases(run.path, run.task, ("patch", "saliency"))
        ],
    }
