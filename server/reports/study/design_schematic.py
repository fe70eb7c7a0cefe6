"""The design of a study, drawn and in words: which centre was held out when, which arms there are, what each cost."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _svg
from server.reports.study.metric_lookup import ARM_MEANINGS
from server.run_folder.arms import POOLED
from server.run_folder.finished_study import FinishedStudy
from shared.tasks.task import Task


def design(study: FinishedStudy) -> dict[str, Any]:
    """The schematic, the arms in words, and each task's budget."""
    description = "Which centres train and which one is held out, one row for each fold"
    caption = (
        f"{description}. In every fold and with each of {study.seeds} the arms below are trained without the held-out "
        "centre, which is read once, after all models of the fold are frozen."
    )
    return {
        "svg": schematic(study, description),
        "caption": caption,
        "arms": [(name.capitalize(), ARM_MEANINGS[name]) for name in study.config.study.arms],
        "budget": [_budget(study, task) for task in study.tasks],
        "pooled": POOLED in study.config.study.arms,
    }


def _budget(study: FinishedStudy, task: Task) -> dict[str, Any]:
    config = study.config.for_task(task.name)
    rounds, loop = config.federation.rounds, config.training
    own = [model for model in study.models if model.task == task.name]
    sites = len(study.centres) - 1
    return {
        "task": task.title,
        "rounds": rounds,
        "steps": f"{rounds * loop.steps_per_round:,}",
        "pooled": f"{rounds * loop.steps_per_round * sites:,}",
        "batch": loop.batch_size,
        "strategy": config.federation.strategy,
        "models": len(own),
        "seconds": f"{sum(model.seconds for model in own):,.0f}",
    }


def schematic(study: FinishedStudy, description: str) -> Markup:
    """A grid: folds down, centres across; what trains is filled, what is held out has a dashed frame."""
    folds, names = study.held_out, study.centres
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.4 + 1.25 * len(names), 0.75 + 0.42 * len(folds)), layout="constrained")
        axes = figure.add_subplot()
        for row, fold in enumerate(folds):
            for column, name in enumerate(names):
                left_out = name == fold
                axes.add_patch(
                    FancyBboxPatch(
                        (column - 0.42, row - 0.32), 0.84, 0.64, boxstyle="round,pad=0,rounding_size=0.08",
                        fc="#fff4ec" if left_out else "#e3eff8", ec=ALARM if left_out else ACCENT,
                        lw=1.6 if left_out else 0.8, ls="--" if left_out else "-",
                    )
                )  # fmt: skip
                axes.text(column, row, "held out" if left_out else "trains", ha="center", va="center", fontsize=8.5,
                          color=ALARM if left_out else INK, fontweight="bold" if left_out else "normal")  # fmt: skip
        axes.set(xlim=(-0.55, len(names) - 0.45), ylim=(len(folds) - 0.5, -0.5))
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(folds)), [f"fold {number + 1}" for number in range(len(folds))])
        axes.tick_params(length=0, labelcolor=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.tick_params(axis="y", labelcolor=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, "design", description)
