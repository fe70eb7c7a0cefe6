"""Scores of binary labels on a page: AUC by arm, its figures, thresholds, tests between arms, and all further figures.

Every AUC stands beside its counts; with fewer than ten cases of a class it is shown and not ranked.
"""

from __future__ import annotations

from typing import Any

from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.score_figures import score_figures
from server.reports.sections.score_tables import auc_table, differences, further_table, threshold_table


def scores(data: ExternalData, *, compared: bool = True) -> dict[str, Any] | None:
    """All that `scores.html` shows of a task; None of one that scores no label.

    Without `compared` only what concerns the model alone, not one arm against another.
    """
    if not data.task.scored:
        return None
    return {
        "fewest": FEWEST,
        "auc": auc_table(data) if compared else None,
        "figures": score_figures(data, compared=compared),
        "thresholds": threshold_table(data),
        "tests": differences(data) if compared else None,
        "further": further_table(data),
    }
