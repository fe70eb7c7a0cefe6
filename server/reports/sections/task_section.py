"""A task's section: masks, scores and numbers as the task declares them, pictures, where it looks, other models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.grad_cam import grad_cam
from server.reports.sections.masks import masks
from server.reports.sections.model_comparison import comparison
from server.reports.sections.numbers import numbers
from server.reports.sections.pictures import pictures
from server.reports.sections.saliency import saliency
from server.reports.sections.scores import scores
from server.reports.sections.sentence import no_sentence, sentence
from server.reports.sections.site_sums import training_sites
from server.run_folder.arms import END_TO_END
from server.run_folder.finished_run import FinishedTask

_EXPLAINED = {"saliency": saliency, "grad_cam": grad_cam}
"""What draws an explanation, by its method; its template has the method's name."""


def task_section(run: FinishedTask, data: ExternalData | None, others: Sequence[FinishedTask]) -> dict[str, Any]:
    """Everything that `task.html` shows of one task, there called `part`.

    `data` is None where the external centre evaluated no case; `others` are all tasks of the run. What the section of a
    task shows of its rival is left out of the rival's own and linked: AUCs, ROC curves and tests, unless the rival was
    also read end to end, which only its own section shows.
    """
    shown = data if data and not run.at_node else None
    host = next((other.task for other in others if other.task.name == run.task.rival_of), None)
    elsewhere = host if shown and END_TO_END not in shown.rows else None
    return {
        "anchor": run.task.name,
        "title": run.task.title,
        "centre": run.config.data.external,
        "best_round": run.chosen.best_round,
        "sentence": sentence(data) if data else no_sentence(run),
        "evaluated": data is not None,
        "at_node": run.at_node and data is not None,
        "elsewhere": elsewhere,
        "n": len(shown.own_cases) if shown else 0,
        "patients": shown.own_cases["patient"].nunique() if shown else 0,
        "fewest": FEWEST,
        "scored": bool(run.task.scored),
        "masks": masks(shown) if shown else None,
        "numbers": numbers(shown) if shown else [],
        "scores": scores(shown, compared=elsewhere is None) if shown else None,
        "pictures": pictures(shown) if shown else None,
        "explanation": explanation(run) if shown else None,
        "comparison": comparison(run),
        "sites": training_sites(run),
    }


def explanation(run: FinishedTask) -> dict[str, Any] | None:
    """Where the task's network looks; None where nothing was explained."""
    how = run.task.explained
    if how is None or (drawn := _EXPLAINED[how.method](run, how)) is None:
        return None
    return drawn | {"template": f"{how.method}.html"}
