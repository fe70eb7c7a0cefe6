"""Figures of scores of binary labels as inline SVG: ROC curves and calibration, one panel per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.reports.figures.arms import DASHED, Rows
from server.reports.figures.style import _STYLE, ACCENT, ALARM, INK, MUTED, SITES, _svg
from server.reports.metric_text import fixed
from shared.metrics.intervals import Numbers, wilson

BINS = 5
_FEWEST_IN_BIN = 5
_SHORT = 4  # names that a row of the legend holds
_LINES = ((ACCENT, "-"), (ALARM, (0, (4, 2))), (SITES[2], (0, (5, 1, 1, 1))), (SITES[3], (0, (1, 1))))


def answers(cases: pd.DataFrame, label: str) -> pd.DataFrame:
    """Columns `truth` and `score` of a label, of one arm's cases that have both."""
    both = cases.reindex(columns=[f"truth_{label}", f"score_{label}"]).dropna()
    return both.set_axis(["truth", "score"], axis=1)


def roc_points(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """False and true positive rates from (0, 0) to (1, 1), one point per distinct score; both classes must be there."""
    positive, values = np.asarray(truth) > 0, np.asarray(score, np.float64)
    levels = np.unique(values)[::-1]
    called = values[None] >= levels[:, None]
    rates = [np.concatenate([[0.0], called[:, part].mean(axis=1)]) for part in (~positive, positive)]
    return rates[0], rates[1]


def calibration_bins(truth: npt.ArrayLike, score: npt.ArrayLike) -> list[tuple[float, float, int]]:
    """Mean score, observed share and number of cases of up to `BINS` bins of nearly equal counts, in order.

    A bin has five cases or more where there are as many, and equal scores are never parted: fewer bins are the price.
    """
    order = np.argsort(np.asarray(score, np.float64), kind="stable")
    values, seen = np.asarray(score, np.float64)[order], np.asarray(truth, np.float64)[order]
    bins = max(1, min(BINS, len(values) // _FEWEST_IN_BIN))
    # Half-way cuts by rank, moved to the start of a run of equal scores.
    cuts = np.unique(np.searchsorted(values, values[(np.arange(1, bins) * len(values)) // bins]))
    parts = [part for part in np.split(np.arange(len(values)), cuts) if len(part)]
    return [(float(values[part].mean()), float(seen[part].mean()), len(part)) for part in parts]


def roc_curves(
    cases: pd.DataFrame,
    rows: Mapping[str, Rows],
    labels: Mapping[str, str],
    arms: Mapping[str, str],
    thin: Sequence[str] = (),
    *,
    name: str,
    description: str,
) -> Markup:
    """One panel per label, in it one curve per arm with its AUC.

    `cases` is the per-case table of all arms, one model each; `rows` are their figures by arm and metric. `labels` and
    `arms` have names as shown; `thin` arms are drawn behind, without name and AUC.
    """
    with mpl.rc_context(_STYLE):
        figure, panels = _panels(len(labels), "1 \N{MINUS SIGN} specificity", "sensitivity")
        for axes, (label, shown) in zip(panels, labels.items(), strict=True):
            axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=DASHED, label="chance")
            for arm in thin:
                part = answers(cases[cases["arm"] == arm], label)
                if set(part["truth"]) == {0, 1}:
                    axes.plot(*roc_points(part["truth"], part["score"]), color=MUTED, lw=0.6, alpha=0.6)
            place = 0.05 + 0.115 * (len(arms) - 1)
            for (arm, arm_name), (colour, style) in zip(arms.items(), _LINES, strict=False):
                part = answers(cases[cases["arm"] == arm], label)
                row = rows[arm].get(f"auc_{label}")
                if row is not None and row.value is not None:
                    axes.plot(*roc_points(part["truth"], part["score"]), color=colour, ls=style, lw=1.5, label=arm_name)
                text = fixed(row.value, 3) if row is not None and row.value is not None else "undefined"
                axes.text(0.98, place, f"AUC {text}", color=colour, ha="right", fontsize=8)
                place -= 0.115
            first = answers(cases[cases["arm"] == next(iter(arms))], label)
            _headed(axes, shown, f"{int(first['truth'].sum())} of {len(first)}")
        _shared_legend(figure, panels)
        return _svg(figure, name, description)


def calibration_plots(
    cases: pd.DataFrame, labels: Mapping[str, str], *, confidence: float, name: str, description: str
) -> Markup:
    """One panel per label: observed share against the mean probability of equal-count bins, with Wilson's intervals."""
    with mpl.rc_context(_STYLE):
        figure, panels = _panels(len(labels), "predicted probability", "observed share")
        for axes, (label, shown) in zip(panels, labels.items(), strict=True):
            part = answers(cases, label)
            bins = calibration_bins(part["truth"], part["score"])
            axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=DASHED, label="perfect")
            for mean, share, n in bins:
                axes.plot([mean, mean], wilson(round(share * n), n, confidence), color=ACCENT, lw=1.0, alpha=0.6)
            means, shares = [item[0] for item in bins], [item[1] for item in bins]
            axes.plot(means, shares, color=ACCENT, marker="o", ms=4, lw=1.2, clip_on=False, label="bins of cases")
            fewest, most = (pick(n for *_, n in bins) for pick in (min, max))
            _headed(
                axes, shown, f"{len(bins)} \N{MULTIPLICATION SIGN} {fewest}" + (f" to {most}" if most > fewest else "")
            )
        _shared_legend(figure, panels)
        return _svg(figure, name, description)


def _panels(count: int, across: str, up: str) -> tuple[Figure, Sequence[Axes]]:
    """Square panels in two columns, or a single one; the axes' names stand once."""
    columns = min(2, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.2, 3.8 if count == 1 else 0.6 + 2.15 * rows), layout="constrained")
    panels = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    for index, axes in enumerate(panels):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        axes.tick_params(labelsize=8, labelbottom=index + columns >= count, labelleft=index % columns == 0)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure, panels


def _headed(axes: Axes, left: str, right: str) -> None:
    axes.set_title(left, loc="left", fontsize=9, color=INK)
    axes.set_title(right, loc="right", fontsize=7.5, color=MUTED)


def _shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, of whatever any of them shows."""
    known = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = 3 if len(known) > _SHORT else len(known)
    figure.legend(
        known.values(), known.keys(), loc="outside upper left", ncols=columns, handlelength=1.8, borderaxespad=0.1
    )
