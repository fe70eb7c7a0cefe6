"""The flow of cases through a study, after CONSORT: found, left out by reason, split, judged while held out."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, _svg
from server.reports.study.metric_lookup import TASK_NAMES
from server.reports.study.study_reader import CentreFlow, Study

_STEP, _BOX = 1.0, 0.86
_SPLITS = ("train", "validation", "test")
_LINE = 0.19  # height of a line of text
_LONGEST = 22  # letters of a reason that fit its box


def flow(study: Study) -> dict[str, Any]:
    """The diagram, its caption, and the same numbers as a table."""
    judged = {task: _judged(study, task) for task in study.tasks}
    description = "Flow of cases by centre: found, left out, split, judged while held out"
    centres = {name: study.flow.get(name) for name in study.centres}
    caption = (
        f"{description}. A centre's own splits are used while others are held out; when its turn comes, none of its "
        f"cases has trained, and all {study.subject} that a task can be judged on are."
    )
    lines = [
        {
            "centre": name,
            "found": found.found,
            "why": _reasons(found),
            "left_out": sum(found.excluded.values()),
            "splits": [found.splits.get(split, 0) for split in _SPLITS],
            "judged": [judged[task].get(name, (0, 0)) for task in study.tasks],
        }
        for name, found in centres.items()
        if found is not None
    ]
    return {
        "svg": diagram(study, judged, description),
        "caption": caption,
        "splits": _SPLITS,
        "tasks": [TASK_NAMES.get(task, task) for task in study.tasks],
        "lines": lines,
    }


def _judged(study: Study, task: str) -> dict[str, tuple[int, int]]:
    """Cases and patients of each centre that were judged while it was held out."""
    table = study.predictions[task]
    groups = table[table["role"] == "external"].groupby("centre")
    return {str(name): (part["case"].nunique(), part["patient"].nunique()) for name, part in groups}


def _reasons(found: CentreFlow) -> str:
    ordered = sorted(found.excluded.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ')} ({count})" for reason, count in ordered) or "none"


def diagram(study: Study, judged: dict[str, dict[str, tuple[int, int]]], description: str) -> Markup:
    """A column a centre, boxes from above to below; heights follow the longest text of each row."""
    texts = {name: _texts(name, found, judged) for name in study.centres if (found := study.flow.get(name))}
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
    """A box with its first line in bold; what was left out is dashed, what was judged has a frame of its own."""
    frame, fill, style = ((ACCENT, "#f2f8fc", "-"), (MUTED, "#f7f8f9", "--"), (ACCENT, "#e3eff8", "-"),
                          (ALARM, "#fff4ec", "-"))[row]  # fmt: skip
    axes.add_patch(
        FancyBboxPatch((column - _BOX / 2, top), _BOX, height, boxstyle="round,pad=0,rounding_size=0.04", fc=fill,
                       ec=frame, lw=1.0, ls=style)
    )  # fmt: skip
    for place, text in enumerate(lines):
        axes.text(column, top + 0.08 + _LINE * (place + 0.5), text, ha="center", va="center", color=INK,
                  fontsize=9 if place == 0 else 8, fontweight="bold" if place == 0 else "normal")  # fmt: skip


def _texts(name: str, found: CentreFlow, judged: dict[str, dict[str, tuple[int, int]]]) -> list[list[str]]:
    ordered = sorted(found.excluded.items(), key=lambda item: (-item[1], item[0]))
    reasons = [f"{_short(reason)}: {count}" for reason, count in ordered]
    splits = [f"{split}: {found.splits.get(split, 0)}" for split in _SPLITS]
    held = [(task, counts.get(name, (0, 0))) for task, counts in judged.items()]
    known = [f"{cases} cases, {patients} patients" for _, (cases, patients) in held[:1]]
    if len(held) > 1:
        known = [f"{_short(TASK_NAMES.get(task, task))}: {cases}" for task, (cases, _) in held]
    return [
        [name, f"found: {found.found}"],
        [f"left out: {sum(found.excluded.values())}", *reasons],
        [f"taken in: {found.included}", *splits],
        ["judged, held out", *known],
    ]


def _short(text: str) -> str:
    spaced = text.replace("_", " ")
    return spaced if len(spaced) <= _LONGEST else f"{spaced[: _LONGEST - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
