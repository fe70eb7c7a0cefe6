"""Learning curves: what chooses the round, by round; one panel for each fold, one line for each arm."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from server.reports.figures.style import _STYLE, INK, SITES, _svg
from server.reports.metric_text import counted
from server.reports.study.metric_lookup import ARM_NAMES, COLOURS, MARKERS, arm_name
from server.run_folder.arms import FEDERATED, POOLED, is_local
from server.run_folder.finished_study import FinishedStudy
from shared.tasks.task import Task

_STYLES = ((0, (4, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))


def learning(study: FinishedStudy, task: Task) -> dict[str, Any] | None:
    """The task's curves; `None` where none were kept."""
    table = study.curves[(study.curves["task"] == task.name) & study.curves["score"].notna()]
    folds = [name for name in study.held_out if name in set(table["held_out"])]
    if not folds:
        return None
    what = task.choice.title
    description = f"{what[0].upper()}{what[1:]} on validation cases by round, one panel for each fold"
    federated = table[table["arm"] == FEDERATED].groupby("held_out")["n"].max()
    counts = ", ".join(f"{fold} {int(federated[fold])}" for fold in folds if fold in federated.index)
    caption = (
        f"{description}: mean of {counted(table['seed'].nunique(), 'seed')}. The cases are those of the training "
        "centres, of which a local model sees its own centre's alone: levels of different arms are not comparable. "
        f"Validation {study.subject} of the federated arm by held-out centre: {counts}."
    )
    return {
        "svg": learning_plot(table, folds, f"{what}, validation", f"{task.name}-learning", description),
        "caption": caption,
    }


def learning_plot(table: pd.DataFrame, folds: list[str], label: str, name: str, description: str) -> Markup:
    """Mean over seeds of each arm's score; panels share their axes."""
    columns = min(2, len(folds))
    rows = -(-len(folds) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.1 * columns, 0.75 + 1.75 * rows), layout="constrained")
        panels = [figure.add_subplot(rows, columns, index + 1) for index in range(len(folds))]
        locals_ = sorted(arm for arm in set(table["arm"]) if is_local(arm))
        drawn = table.groupby(["held_out", "arm", "round"])["score"].mean()
        low, high = drawn.min(), drawn.max()
        for index, (axes, fold) in enumerate(zip(panels, folds, strict=True)):
            part = table[table["held_out"] == fold]
            for arm in [*(arm for arm in (FEDERATED, POOLED) if arm in set(part["arm"])), *locals_]:
                _line(axes, part[part["arm"] == arm], arm, locals_)
            axes.set_title(f"held out: {fold}", loc="left", fontsize=9, color=INK)
            axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
            axes.tick_params(labelleft=index % columns == 0)
        figure.supxlabel("round", fontsize=9)
        figure.supylabel(label, fontsize=9)
        shown = {text: handle for axes in panels
                 for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
        order = sorted(shown, key=lambda text: (text.startswith("Local"), text))
        figure.legend([shown[text] for text in order], order, loc="outside upper left", ncols=3, borderaxespad=0.1)
        return _svg(figure, name, description)


def _line(axes: Axes, part: pd.DataFrame, arm: str, locals_: list[str]) -> None:
    mean = part.groupby("round")["score"].mean()
    if mean.empty:
        return
    if arm in COLOURS:
        axes.plot(mean.index, mean, color=COLOURS[arm], marker=MARKERS[arm], ms=3.5, lw=1.8, label=ARM_NAMES[arm])
        return
    place = locals_.index(arm)
    colour = (SITES[1], SITES[4], SITES[2], SITES[3])[place % 4]
    axes.plot(mean.index, mean, color=colour, marker="^v<>"[place % 4], ms=3, lw=1.0, ls=_STYLES[place % 4],
              label=arm_name(arm))  # fmt: skip
