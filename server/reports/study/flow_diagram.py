"""The flow of cases through a study, after CONSORT: listed, left out by reason, split, evaluated while held out."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _svg
from server.reports.metric_text import ordered, reasons
from server.run_folder.finished_study import CentreFlow, FinishedStudy
from shared.tasks.task import Task

_BOX = 0.86
_SPLITS = ("train", "validation", "test")
_LINE = 0.19  # height of a line of text
_LONGEST = 22  # letters of a reason that fit its box

Evaluated = dict[str, dict[str, tuple[int, int]]]
"""By title of the task and centre: cases and patients that were evaluated while the centre was held out."""


def flow(study: FinishedStudy) -> dict[str, Any]:
    """The diagram, its caption, and the same numbers as a table."""
    evaluated = {task.title: _evaluated(study, task) for task in study.tasks}
    description = "Flow of cases by centre: listed, left out, split, evaluated while held out"
    caption = (
        f"{description}. A centre's own splits are used while others are held out; when its turn comes, none of its "
        f"cases has trained, and all {study.subject} that a task can use are evaluated."
    )
    lines = [
        {
            "centre": name,
            "listed": own.listed,
            "why": reasons(own.excluded) or "none",
            "left_out": sum(own.excluded.values()),
            "splits": [own.splits.get(split, 0) for split in _SPLITS],
            "evaluated": [counts.get(name, (0, 0)) for counts in evaluated.values()],
        }
        for name in study.centres
        if (own := study.flow.get(name))
    ]
    return {
        "svg": diagram(study, evaluated, description),
        "caption": caption,
        "splits": _SPLITS,
        "tasks": list(evaluated),
        "lines": lines,
    }


def _evaluated(study: FinishedStudy, task: Task) -> dict[str, tuple[int, int]]:
    table = study.predictions[task.name]
    groups = table[table["role"] == "external"].groupby("centre")
    return {str(name): (part["case"].nunique(), part["patient"].nunique()) for name, part in groups}


def diagram(study: FinishedStudy, evaluated: Evaluated, description: str) -> Markup:
    """One column for each centre, boxes from above to below; heights follow the longest text of each row."""
    texts = {name: _texts(name, own, evaluated) for name in study.centres if (own := study.flow.get(name))}
    heights = [0.16 + _LINE * max(len(item[row]) for item in texts.values()) for row in range(4)]
    gap = 0.24
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        total = sum(heights) + gap * 3
        figure = Figure(figsize=(1.95 * len(texts), total + 0.15))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.5, len(texts) - 0.5), ylim=(total + 0.06, -0.08))
        axes.set_axis_off()
        for column, boxes in enumerate(texts.values()):
            top = 0.0
            for row, (lines, height) in enumerate(zip(boxes, heights, strict=True)):
                _box(axes, column, top, height, lines, row)
                if row:
                    axes.annotate("", (column, top), (column, top - gap), arrowprops={
                        "arrowstyle": "-|>", "color": MUTED, "lw": 0.9, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
                top += height + gap
        return _svg(figure, "flow", description)


def _box(axes: Axes, column: int, top: float, height: float, lines: list[str], row: int) -> None:
    """A box with its first line in bold; what was left out is dashed, what was evaluated has a frame of its own."""
    frame, fill, style = ((ACCENT, "#f2f8fc", "-"), (MUTED, "#f7f8f9", "--"), (ACCENT, "#e3eff8", "-"),
                          (ALARM, "#fff4ec", "-"))[row]  # fmt: skip
    axes.add_patch(
        FancyBboxPatch((column - _BOX / 2, top), _BOX, height, boxstyle="round,pad=0,rounding_size=0.04", fc=fill,
                       ec=frame, lw=1.0, ls=style)
    )  # fmt: skip
    for place, text in enumerate(lines):
        axes.text(column, top + 0.08 + _LINE * (place + 0.5), text, ha="center", va="center", color=INK,
                  fontsize=9 if place == 0 else 8, fontweight="bold" if place == 0 else "normal")  # fmt: skip


def _texts(name: str, own: CentreFlow, evaluated: Evaluated) -> list[list[str]]:
    left_out = [f"{_short(reason)}: {count}" for reason, count in ordered(own.excluded)]
    splits = [f"{split}: {own.splits.get(split, 0)}" for split in _SPLITS]
    held = [(title, counts.get(name, (0, 0))) for title, counts in evaluated.items()]
    known = [f"{cases} cases, {patients} patients" for _, (cases, patients) in held[:1]]
    if len(held) > 1:
        known = [f"{_short(title)}: {cases}" for title, (cases, _) in held]
    return [
        [name, f"listed: {own.listed}"],
        [f"left out: {sum(own.excluded.values())}", *left_out],
        [f"taken in: {own.included}", *splits],
        ["evaluated, held out", *known],
    ]


def _short(text: str) -> str:
    spaced = text.replace("_", " ")
    return spaced if len(spaced) <= _LONGEST else f"{spaced[: _LONGEST - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
