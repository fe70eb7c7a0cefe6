"""Arms by centres: one figure of every model at every centre, external cells beside a local model's own test cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from server.reports.figures.style import _STYLE, INK, MUTED, _svg
from server.reports.metric_text import counted, fixed, rounded
from server.reports.study.metric_lookup import Summary, SummaryRow, arm_name, axis_name
from server.run_folder.arms import local_arm
from server.run_folder.finished_study import FinishedStudy
from shared.metrics.metric import Metric
from shared.tasks.task import Task

ALARM = 0.1  # an external figure above the internal one by more is a leak until shown otherwise
# Light enough for dark numbers over its whole length.
_SHADES = LinearSegmentedColormap.from_list("shades", ["#f7fbff", "#7fb6dd"])


def matrix(study: FinishedStudy, task: Task) -> dict[str, Any] | None:
    """The headline metric of each arm at each centre, drawn; and which external cells are too good to be true."""
    summary, metric = Summary(study, task), task.headline
    arms = summary.arms
    cells = [[_cell(summary, arm, centre, metric) for centre in study.centres] for arm in arms]
    known = next((cell for line in cells for cell in line if cell is not None), None)
    if known is None:
        return None
    description = f"{axis_name(metric)} of each arm (rows) at each centre (columns)"
    svg = matrix_plot(cells, metric, arms, study.centres, name=f"{task.name}-matrix", description=description)
    caption = (
        f"{description}, below it the number of {study.subject} and patients; mean of "
        f"{counted(known.seeds, 'seed')}. Upright: the centre was held out. Italic in a dashed frame: a local "
        "model on its own centre's test cases, which is no external figure. Hatched: too few cases, shown and not "
        f"ranked. {study.confidence} intervals of every cell stand in the table of all figures."
    )
    return {"svg": svg, "caption": caption, "alarms": _alarms(summary, arms, study.centres, metric)}


def _cell(summary: Summary, arm: str, centre: str, metric: Metric) -> SummaryRow | None:
    own = arm == local_arm(centre)
    return summary.get(arm, centre, metric, "test" if own else "external")


def _alarms(summary: Summary, arms: Sequence[str], centres: Sequence[str], metric: Metric) -> list[str]:
    """External cells above the arm's best internal test figure by more than `ALARM`; shares alone are compared."""
    lines = []
    for arm in arms:
        inside = [cell for centre in centres if (cell := summary.get(arm, centre, metric, "test")) is not None]
        known = [cell.value for cell in inside if cell.value is not None and cell.unit == "1"]
        for centre in centres:
            cell = summary.get(arm, centre, metric)
            if not known or cell is None or cell.value is None or cell.value <= max(known) + ALARM:
                continue
            lines.append(
                f"{arm_name(arm)} at {centre}: {rounded(cell.value, cell.unit)}, more than {fixed(ALARM, 1)} above its "
                f"best internal test value {fixed(max(known), 3)}."
            )
    return lines


def matrix_plot(
    cells: Sequence[Sequence[SummaryRow | None]],
    metric: Metric,
    arms: Sequence[str],
    centres: Sequence[str],
    *,
    name: str,
    description: str,
) -> Markup:
    """A heat map with numbers, one row per arm and one column per centre; the darker, the better."""
    values = np.array(
        [[np.nan if cell is None or cell.value is None else cell.value for cell in line] for line in cells]
    )
    low, high = (float(pick(values)) if np.isfinite(values).any() else 0.0 for pick in (np.nanmin, np.nanmax))
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.9 + 1.15 * len(centres), 0.9 + 0.46 * len(arms)), layout="constrained")
        axes = figure.add_subplot()
        shades = _SHADES if metric.higher_is_better else _SHADES.reversed()
        for (row, column), value in np.ndenumerate(values):
            depth = 0.5 if high == low else (value - low) / (high - low)
            shade = "white" if np.isnan(value) else shades(depth)
            _drawn(axes, (column, row), cells[row][column], shade)
        axes.set(xlim=(-0.5, len(centres) - 0.5), ylim=(len(arms) - 0.5, -0.5))
        axes.set_xticks(range(len(centres)), centres)
        axes.set_yticks(range(len(arms)), [arm_name(arm) for arm in arms])
        axes.tick_params(length=0, labelcolor=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.set_xlabel(f"{axis_name(metric)}; darker is better", color=MUTED, fontsize=8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, name, description)


def _drawn(axes: Axes, at: tuple[int, int], cell: SummaryRow | None, shade: Any) -> None:
    """One cell: its figure over its cases and patients; hatched where thin, dashed and italic where internal."""
    column, row = at
    if cell is None:
        axes.text(column, row, "\N{EN DASH}", ha="center", va="center", color=MUTED)
        return
    internal, corner = cell.role == "test", (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fc=shade, ec="white", lw=1.5))
    box: dict[str, Any] = {}
    if not cell.ranked:
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec="#8497a6", lw=0, hatch="////"))
        box = {"bbox": {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85}}
    if internal:
        axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, ec=MUTED, ls="--", lw=1))
    middle: dict[str, Any] = {"ha": "center", "va": "center", **box}
    text = "undefined" if cell.value is None else rounded(cell.value, cell.unit)
    axes.text(column, row + 0.27, f"{cell.n}/{cell.patients}", color=MUTED, fontsize=7, **middle)
    axes.text(column, row - 0.12, text, color=INK, fontsize=9.5, style="italic" if internal else "normal", **middle)
