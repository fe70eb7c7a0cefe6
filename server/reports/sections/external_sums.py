"""What the page shows of an external centre that judged at a node of its own: figures from sums, a table a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.reports import metric_text
from server.reports.sections.classification import title
from server.reports.sections.classification_data import FEWEST, LABEL_NAMES
from server.reports.sections.lesion_segmentation import headline
from server.run_folder.finished_run import RunFolder
from server.run_folder.results import ResultRow
from shared.config.sections import SEGMENTATIONS
from shared.errors import RunError
from shared.metrics.score_sums import BINS, LABELS

_AUC = f"Area under the ROC curve, from histograms of {BINS} bins; not defined with a single class."
_LOSS = "Minus the mean log-likelihood of the truth: 0.693 for always answering one half; lower is better."
_CLASSIFIED = {
    **{f"auc_{label}": (f"AUC, {LABEL_NAMES[label]}", _AUC) for label in LABELS},
    "auc_macro": ("AUC, mean of the subtypes", "Mean of the subtypes' AUCs; not defined where one of them has none."),
    **{f"log_loss_{label}": (f"Log loss, {LABEL_NAMES[label]}", _LOSS) for label in LABELS},
    "mae_ki67": ("Ki-67, mean absolute error", "Mean size of the difference, percentage points."),
    "bias_ki67": ("Ki-67, bias", "Mean of predicted minus true Ki-67, percentage points."),
}


def section(runs: Sequence[RunFolder]) -> dict[str, Any] | None:
    """Tables of the chosen models, in the order of training; `None` where the centre did not judge at its own node.

    Raises
    ------
    RunError
        The results lack the figures of a segmentation's chosen model.

    """
    run = runs[0]
    if not run.at_node:
        return None
    parts = [_part(item) for item in runs]
    return {
        "centre": run.config.data.external,
        "phantom": run.results.provenance.phantom,
        "parts": parts,
        "classifiers": any(item.task not in SEGMENTATIONS for item in runs),
        "fewest": min(part["n"] for part in parts),
        "ranked_from": FEWEST,
    }


def _part(run: RunFolder) -> dict[str, Any]:
    rows = list(headline(run, run.config.data.external).values())
    if not rows and run.task in SEGMENTATIONS:
        centre = run.config.data.external
        raise RunError(f"{run.path.name}/results.json has no figures of {run.task}'s chosen model at '{centre}'")
    explained = metric_text.meanings(run.config.evaluation)
    explained["failures"] = explained["failure_share"]  # the count alone is sent
    return {
        "title": title(run.task),
        "best_round": run.chosen.best_round,
        "n": max((row.n for row in rows), default=0),
        "lines": [_line(row, explained) for row in rows],
    }


def _line(row: ResultRow, explained: Mapping[str, str]) -> dict[str, Any]:
    """A figure with its name and meaning; a structure's Dice means what a lesion's does."""
    meaning = explained.get(row.metric) or explained.get(row.metric.partition("_")[0], "")
    name, meaning = _CLASSIFIED.get(row.metric, (metric_text.label(row), meaning))
    return {"row": row, "name": name, "meaning": meaning}
