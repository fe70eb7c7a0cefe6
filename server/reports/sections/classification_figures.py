"""Which figures a classifier's section has, with their captions: those that its cases allow.

Every figure takes the `name` that its ids carry, as a page holds those of several tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.evaluation.external_classification import ARM, END_TO_END
from server.reports.figures.arms import Rows, forest, ki67_agreement
from server.reports.figures.roc_calibration import calibration_plots, roc_curves
from server.reports.metric_text import fixed, interval, value
from server.reports.sections.classification_data import ALONE, LABEL_NAMES, Judged
from shared.metrics.score_sums import KI67


def figures_of(task: str, judged: Judged, *, compared: bool = True) -> list[dict[str, Any]]:
    """Figures with captions of one task; without `compared` only those of the model alone, not of arm against arm."""
    where = f"{judged.subject} of {judged.centre}"
    labels = {name: LABEL_NAMES[name] for name in judged.labels if judged.counts(name)[1]}
    return [
        *(_roc(task, judged, labels, where) if labels and compared else ()),
        *(_calibration(task, judged, labels, where) if labels else ()),
        *(_forest(task, judged, where) if compared else ()),
        *_ki67(task, judged, where),
    ]


def _roc(task: str, judged: Judged, labels: dict[str, str], where: str) -> Iterator[dict[str, Any]]:
    text = f"ROC curves, {where}"
    arms = {arm: judged.named(arm).lower() for arm in (ARM, END_TO_END, *judged.rivals) if arm in judged.rows}
    alone = [arm for arm in ALONE if arm in judged.rows]
    words = f"{text}, a panel a label"
    svg = roc_curves(judged.cases, judged.rows, labels, arms, alone, name=f"{task}-roc", description=words)
    thin = " Thin: the branches alone." if alone else ""
    yield {"svg": svg, "caption": f"{text}. Beside each name: positive cases of all.{thin}"}


def _calibration(task: str, judged: Judged, labels: dict[str, str], where: str) -> Iterator[dict[str, Any]]:
    text = f"Calibration, {where}"
    svg = calibration_plots(
        judged.cases[judged.cases["arm"] == ARM],
        labels,
        confidence=judged.config.confidence,
        name=f"{task}-calibration",
        description=f"{text}: observed share against predicted probability",
    )
    numbers = "; ".join(_calibrated(judged.rows[ARM], label, shown) for label, shown in labels.items())
    caption = f"{text}, reference outline, with Wilson's intervals. Beside each name: bins and cases in each."
    yield {"svg": svg, "caption": f"{caption} {numbers}."}


def _forest(task: str, judged: Judged, where: str) -> Iterator[dict[str, Any]]:
    rows = judged.rows
    groups = {
        f"{LABEL_NAMES[label]}{' (few)' if judged.few(label) else ''}": {
            judged.named(arm): found[f"auc_{label}"] for arm, found in rows.items() if f"auc_{label}" in found
        }
        for label in judged.heard
    }
    if any(row.value is not None for group in groups.values() for row in group.values()):
        name = "Mean AUC of the four subtypes" if "macro" in judged.heard else "AUC"
        text = f"{name} by arm, {where}"
        fewest, most = (pick(rows[ARM][f"auc_{label}"].n for label in judged.heard) for pick in (min, max))
        across = f"{name} (n = {fewest}" + (f" to {most})" if most > fewest else ")")
        svg = forest(groups, label=across, name=f"{task}-forest", description=text)
        yield {"svg": svg, "caption": f"{text}, with intervals; hollow marks have none. Dashed: chance."}


def _ki67(task: str, judged: Judged, where: str) -> Iterator[dict[str, Any]]:
    answers = judged.cases[(judged.cases["arm"] == ARM) & (judged.cases["label"] == KI67)]
    if len(answers):
        text = f"Bland-Altman plot of Ki-67, {where}"
        svg = ki67_agreement(answers, judged.rows[ARM], name=f"{task}-ki67", description=text)
        caption = f"{text}, reference outline: bias and 95% limits, bands are their bootstrap intervals."
        yield {"svg": svg, "caption": caption}


def _calibrated(rows: Rows, label: str, shown: str) -> str:
    brier = rows[f"brier_{label}"]
    slope, intercept = (rows[f"calibration_{name}_{label}"] for name in ("slope", "intercept"))
    line = f"slope {fixed(slope.value, 2)}, intercept {fixed(intercept.value, 2)}"
    known = line if intercept.value is not None else "too few for a slope"
    return f"{shown}: {known}, Brier {value(brier)} ({interval(brier)})"
