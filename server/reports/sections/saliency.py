"""The page's section on where the subtype ensemble looks: from the run folder's stored saliency alone."""

from __future__ import annotations

from typing import Any

from server.evaluation.explain_cases import read_maps, read_table
from server.evaluation.saliency import DIFFERENCE, LEARNT, saliency_summary
from server.reports import metric_text
from server.reports.figures.saliency import saliency_by_region, saliency_panel
from server.run_folder.finished_run import RunFolder

READER = "volume"
"""Whose regions are drawn: it sees the whole patch, as the ensemble, whose planes cross in the lesion, does not."""


def explanations(run: RunFolder) -> dict[str, Any] | None:
    """Figures, the paper's finding as a number, and a map a subtype; `None` where nothing was explained."""
    tables = read_table(run.path)
    if not tables:
        return None
    summary = saliency_summary(tables["trained"], run.config.evaluation, run.config.seed, untrained=tables["untrained"])
    found = {
        name: {
            "value": metric_text.fixed(float(row["value"]), 2),
            "low": metric_text.fixed(float(row["low"]), 2),
            "high": metric_text.fixed(float(row["high"]), 2),
            "n": int(row["n"]),
        }
        for name in (DIFFERENCE, LEARNT)
        for row in summary[(summary["reader"] == READER) & (summary["subtype"] == name)].to_dict("records")
    }
    maps = read_maps(run.path)
    return {
        "svg": saliency_by_region(summary, reader=READER, name="saliency-regions"),
        "difference": found[DIFFERENCE],
        "learnt": found[LEARNT],
        "reader": READER,
        "maps": [
            saliency_panel(
                one.patch,
                one.saliency,
                subtype=one.subtype,
                probability=one.probability,
                name=f"saliency-{one.subtype}",
            )
            for one in maps
        ],
    }
