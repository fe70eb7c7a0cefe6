"""The design of a study, drawn and in words: which centre was held out when, which arms there are, what each cost."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _svg
from server.reports.study.metric_lookup import TASK_NAMES
from server.reports.study.study_reader import Study
from shared.config.sections import TaskName

_ARMS = {
    "local": "each training centre alone, on its own data, for the rounds and steps it has in the federation",
    "federated": "the training centres together, averaged after every round; no image leaves a centre",
    "pooled": "all training data in one place, for the steps of all centres together: a ceiling that hospitals cannot "
    "reach without sharing images",
    "ensemble": "the mean of the local models' predictions, a case each: sharing models, not training",
}


def design(study: Study) -> dict[str, Any]:
    """The schematic, the arms in words, and each task's budget."""
    folds, seeds = len(study.held_out), study.config.study.seeds
    description = "Which centres train and which one is held out, a row a fold"
    caption = (
        f"{description}. In every fold and with each of {len(seeds)} seed{'' if len(seeds) == 1 else 's'} "
        "the arms below are trained without the held-out centre, which is read once, after all models of the fold "
        "are frozen."
    )
    return {
        "svg": schematic(study, description),
        "caption": caption,
        "arms": [(name.capitalize(), _ARMS[name]) for name in study.config.study.arms],
        "budget": [_budget(study, task) for task in study.config.tasks if task in study.predictions],
        "pooled": "pooled" in study.config.study.arms,
        "models": len(study.cells),
        "folds": folds,
        "seeds": ", ".join(map(str, seeds)),
    }


def _budget(study: Study, task: TaskName) -> dict[str, Any]:
    config = study.config.for_task(task)
    rounds, loop, own = config.federation.rounds, config.training, [c for c in study.cells if c.task == task]
    sites = len(study.centres) - 1
    return {
        "task": TASK_NAMES.get(task, task),
        "rounds": rounds,
        "steps": f"{rounds * loop.steps_per_round:,}",
        "pooled": f"{rounds * loop.steps_per_round * sites:,}",
        "batch": loop.batch_size,
        "strategy": config.federation.strategy,
        "models": len(own),
        "seconds": f"{sum(cell.seconds for cell in own):,.0f}",
    }


def schematic(study: Study, description: str) -> Markup:
    """A grid: folds down, centres across; what trains is filled, what judges is framed and hatched."""
    folds, names = study.held_out, study.centres
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.4 + 1.25 * len(names), 0.75 + 0.42 * len(folds)), layout="constrained")
        axes = figure.add_subplot()
        for row, fold in enumerate(folds):
            for column, name in enumerate(names):
                judges = name == fold
                axes.add_patch(
                    FancyBboxPatch(
                        (column - 0.42, row - 0.32), 0.84, 0.64, boxstyle="round,pad=0,rounding_size=0.08",
                        fc="#fff4ec" if judges else "#e3eff8", ec=ALARM if judges else ACCENT,
                        lw=1.6 if judges else 0.8, ls="--" if judges else "-",
                    )
                )  # fmt: skip
                axes.text(column, row, "held out" if judges else "trains", ha="center", va="center", fontsize=8.5,
                          color=ALARM if judges else INK, fontweight="bold" if judges else "normal")  # fmt: skip
        axes.set(xlim=(-0.55, len(names) - 0.45), ylim=(len(folds) - 0.5, -0.5))
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(folds)), [f"fold {number + 1}" for number in range(len(folds))])
        axes.tick_params(length=0, labelcolor=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.tick_params(axis="y", labelcolor=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, "design", description)
