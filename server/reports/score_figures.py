"""Figures of classifiers as inline SVG: ROC curves, calibration, arms side by side, agreement on Ki-67.

Every figure takes the `name` that its ids carry, as a page holds those of several tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.reports.figures import _STYLE, ACCENT, ALARM, INK, MUTED, _axes, _legend, _svg
from server.reports.wording import fixed, interval, value
from server.results import ResultRow
from shared.metrics.classification import KI67
from shared.metrics.intervals import Numbers, wilson

BINS = 5
_FEWEST_IN_BIN = 5
_LINES = ((ACCENT, "-"), (ALARM, (0, (4, 2))))
_DASHED = (0, (4, 3))

Rows = Mapping[str, ResultRow]
"""Rows by metric."""


def figures_of(
    task: str,
    cases: pd.DataFrame,
    rows: Mapping[str, Rows],
    *,
    labels: Mapping[str, str],
    heard: Mapping[str, str],
    arms: Mapping[str, str],
    where: str,
    confidence: float,
) -> list[dict[str, Any]]:
    """Figures with captions of one task, those that its cases allow.

    Parameters
    ----------
    cases
        Long table of all arms, one model each.
    rows
        By arm, the one that the others are read against first, and by metric.
    labels, heard, arms
        Names to show: of binary labels with cases, of the AUCs that sum the task up, of arms.
    where
        What the cases are, "phantom cases of centre-d".

    """
    first = next(iter(rows))
    own = cases[cases["arm"] == first]
    drawn = []
    if labels:
        text = f"ROC curves, {where}"
        outlines = {arm: arms[arm].lower() for arm in (first, f"{first}:end-to-end") if arm in arms}
        svg = roc_curves(cases, rows, labels, outlines, name=f"{task}-roc", description=f"{text}, a panel a label")
        drawn.append({"svg": svg, "caption": f"{text}. Beside each name: positive cases of all."})
        text = f"Calibration, {where}"
        words = f"{text}: observed share against predicted probability"
        svg = calibration_plots(own, labels, confidence=confidence, name=f"{task}-calibration", description=words)
        numbers = "; ".join(_calibration(rows[first], label, shown) for label, shown in labels.items())
        caption = f"{text}, reference outline, with Wilson's intervals. Beside each name: bins and cases in each."
        caption = f"{caption} {numbers}."
        drawn.append({"svg": svg, "caption": caption})
    metrics = {shown: f"auc_{label}" for label, shown in heard.items()}
    groups = {
        shown: {arms[arm]: found[metric] for arm, found in rows.items() if metric in found}
        for shown, metric in metrics.items()
    }
    if any(row.value is not None for group in groups.values() for row in group.values()):
        name = "Mean AUC of the four subtypes" if "macro" in heard else "AUC"
        text = f"{name} by arm, {where}"
        fewest, most = (pick(rows[first][metric].n for metric in metrics.values()) for pick in (min, max))
        label = f"{name} (n = {fewest}" + (f" to {most})" if most > fewest else ")")
        svg = forest(groups, label=label, name=f"{task}-forest", description=text)
        drawn.append({"svg": svg, "caption": f"{text}, with intervals; hollow marks have none. Dashed: chance."})
    answers = own[own["label"] == KI67]
    if len(answers):
        text = f"Bland-Altman plot of Ki-67, {where}"
        svg = ki67_agreement(answers, rows[first], name=f"{task}-ki67", description=text)
        caption = f"{text}, reference outline: bias and 95% limits, bands are their bootstrap intervals."
        drawn.append({"svg": svg, "caption": caption})
    return drawn


def _calibration(rows: Rows, label: str, shown: str) -> str:
    brier = rows[f"brier_{label}"]
    slope, intercept = (rows[f"calibration_{name}_{label}"] for name in ("slope", "intercept"))
    line = f"slope {fixed(slope.value, 2)}, intercept {fixed(intercept.value, 2)}"
    known = line if intercept.value is not None else "too few for a slope"
    return f"{shown}: {known}, Brier {value(brier)} ({interval(brier)})"


def roc_points(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """False and true positive rates from (0, 0) to (1, 1), a point a distinct score; both classes must be there."""
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
    *,
    name: str,
    description: str,
) -> Markup:
    """A panel a label, a curve an arm, each with its AUC; `rows` by arm and metric, names by label and by arm."""
    with mpl.rc_context(_STYLE):
        figure, panels = _panels(len(labels), "1 \N{MINUS SIGN} specificity", "sensitivity")
        for axes, (label, shown) in zip(panels, labels.items(), strict=True):
            axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=_DASHED, label="chance")
            place = 0.05 + 0.115 * (len(arms) - 1)
            for (arm, arm_name), (colour, style) in zip(arms.items(), _LINES, strict=False):
                part = cases[(cases["arm"] == arm) & (cases["label"] == label)]
                row = rows[arm].get(f"auc_{label}")
                if row is not None and row.value is not None:
                    axes.plot(*roc_points(part["truth"], part["score"]), color=colour, ls=style, lw=1.5, label=arm_name)
                text = fixed(row.value, 3) if row is not None and row.value is not None else "undefined"
                axes.text(0.98, place, f"AUC {text}", color=colour, ha="right", fontsize=8)
                place -= 0.115
            first = cases[(cases["arm"] == next(iter(arms))) & (cases["label"] == label)]
            _headed(axes, shown, f"{int(first['truth'].sum())} of {len(first)}")
        _shared_legend(figure, panels)
        return _svg(figure, name, description)


def calibration_plots(
    cases: pd.DataFrame, labels: Mapping[str, str], *, confidence: float, name: str, description: str
) -> Markup:
    """A panel a label: observed share against the mean probability of equal-count bins, with Wilson's intervals."""
    with mpl.rc_context(_STYLE):
        figure, panels = _panels(len(labels), "predicted probability", "observed share")
        for axes, (label, shown) in zip(panels, labels.items(), strict=True):
            part = cases[cases["label"] == label]
            bins = calibration_bins(part["truth"], part["score"])
            axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=_DASHED, label="perfect")
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


def forest(
    groups: Mapping[str, Rows], *, label: str, name: str, description: str, reference: float | None = 0.5
) -> Markup:
    """One line an arm in groups, each under its heading when there are several; `reference` is a dashed line.

    The first line of a group is the one that the others are read against. A figure that does not exist is named so.
    """
    lines: list[tuple[str, ResultRow | None, bool]] = []
    for heading, rows in groups.items():
        lines += [(heading, None, False)] if len(groups) > 1 else []
        lines += [(arm, row, index == 0) for index, (arm, row) in enumerate(rows.items())]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=0.9 + 0.25 * len(lines))
        if reference is not None:
            axes.axvline(reference, color=MUTED, lw=0.9, ls=_DASHED)
        for place, (_, row, first) in enumerate(lines):
            if row is None:
                continue
            colour = ACCENT if first else INK
            if row.value is None:
                axes.text(0.5, place, "undefined", color=MUTED, va="center", ha="center", fontsize=8,
                          transform=axes.get_yaxis_transform())  # fmt: skip
                continue
            if row.ci_low is not None and row.ci_high is not None:
                axes.plot([row.ci_low, row.ci_high], [place, place], color=colour, lw=1.4)
            bare = row.ci_low is None
            axes.plot([row.value], [place], marker="D" if bare else "s", ms=5, color=colour, ls="",
                      mfc="white" if bare else colour)  # fmt: skip
        axes.set_yticks(range(len(lines)), [text for text, *_ in lines])
        for tick, (_, row, _) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_color(INK if row is None else MUTED)
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        return _svg(figure, name, description)


def ki67_agreement(cases: pd.DataFrame, rows: Rows, *, name: str, description: str) -> Markup:
    """Predicted minus true Ki-67 against their mean, points; bias and limits with the intervals of `rows`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        axes.axhline(0.0, color=MUTED, lw=0.8)
        for metric, style, text in (("bias", "-", "bias"), ("limit_low", "--", "95% limits"), ("limit_high", "--", "")):
            row = rows.get(f"{metric}_ki67")
            if row is None or row.value is None:
                continue
            colour = ACCENT if metric == "bias" else ALARM
            axes.axhline(row.value, color=colour, ls=style, lw=1.3, label=text or None)
            if row.ci_low is not None and row.ci_high is not None:
                axes.axhspan(row.ci_low, row.ci_high, color=colour, alpha=0.12, lw=0)
        axes.scatter((cases["score"] + cases["truth"]) / 2, cases["score"] - cases["truth"], s=18, color=INK, zorder=3)
        axes.set(
            xlabel=f"mean of predicted and true Ki-67, % (n = {len(cases)})", ylabel="predicted minus true, points"
        )
        if axes.get_legend_handles_labels()[0]:
            _legend(axes, columns=2)
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
    figure.legend(known.values(), known.keys(), loc="outside upper left", ncols=3, handlelength=1.8, borderaxespad=0.1)
