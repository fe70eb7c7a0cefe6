"""Classifiers of a study: ROC curves, calibration, and what each arm does at its frozen thresholds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from server.reports.figures.arms import ki67_agreement
from server.reports.figures.roc_calibration import calibration_plots, roc_curves
from server.reports.sections.classification_data import LABEL_NAMES
from server.reports.study.metric_lookup import Summary, arm_name, drawn_arms, metric_name, seed_rows
from server.reports.study.study_reader import Study
from shared.metrics.score_sums import KI67, LABELS

_TABLES = {
    ": ranking and calibration": ("auc", "brier", "calibration_slope", "calibration_intercept", "ece"),
    " at the frozen thresholds": ("sensitivity", "specificity", "ppv", "npv", "prevalence"),
}


def scores(study: Study, task: str) -> dict[str, Any] | None:
    """Figures of the first seed, tables over all of them; `None` where a task has no scores."""
    table = study.predictions[task]
    if "label" not in table.columns:
        return None
    seed = study.config.study.seeds[0]
    cases = table[(table["role"] == "external") & (table["seed"] == seed)]
    labels = {name: LABEL_NAMES[name] for name in LABELS if name in set(cases["label"])}
    summary = Summary(study, task)
    return {
        "figures": _figures(study, task, cases, labels, seed),
        "tables": [
            {
                "title": f"{name}{words}",
                "columns": [metric_name(f"{metric}_{label}").split(", ")[0] for metric in metrics],
                "lines": [
                    _line(summary, arm, centre, [f"{metric}_{label}" for metric in metrics])
                    for arm, centre in _places(study, summary)
                ],
            }
            for label, name in labels.items()
            for words, metrics in _TABLES.items()
        ],
    }


def _places(study: Study, summary: Summary) -> list[tuple[str, str]]:
    """Every arm at all held-out centres together, then the federated one at each of them."""
    together = [(arm, "all") for arm in summary.arms if not arm.startswith("local:")]
    return together + [("federated", centre) for centre in study.held_out]


def _line(summary: Summary, arm: str, centre: str, metrics: list[str]) -> dict[str, Any]:
    cells = [summary.get(arm, centre, metric) for metric in metrics]
    known = [cell for cell in cells if cell is not None]
    return {
        "name": arm_name(arm) if centre == "all" else f"Federated at {centre}",
        "cells": cells,
        "thin": any(not cell.ranked for cell in known if cell.row.value is not None),
        "n": f"{known[0].row.n} ({known[0].patients})" if known else "",
    }


def _figures(study: Study, task: str, cases: pd.DataFrame, labels: dict[str, str], seed: int) -> list[dict[str, Any]]:
    drawn = []
    arms = {arm: arm_name(arm) for arm in drawn_arms(study) if arm in set(cases["arm"])}
    locals_ = sorted(arm for arm in set(cases["arm"]) if arm.startswith("local:"))
    whom = f"{study.subject} of all held-out centres together, seed {seed}"
    if labels:
        rows = {arm: seed_rows(study, task, arm, seed) for arm in arms}
        n, patients = cases["case"].nunique(), cases["patient"].nunique()
        text = f"ROC curves of each arm on the {whom}"
        svg = roc_curves(cases, rows, labels, arms, locals_, name=f"{task}-roc", description=text)
        caption = (
            f"{text} ({n} cases of {patients} patients; above each panel its positive ones). Thin grey: the local "
            f"models. AUCs are of this seed; {study.confidence} intervals over all seeds stand in the tables below."
        )
        drawn.append({"svg": svg, "caption": caption})
    for arm in arms if labels else ():
        part = cases[cases["arm"] == arm]
        text = f"Calibration of the {arm} arm on the {whom}"
        svg = calibration_plots(
            part, labels, confidence=study.config.evaluation.confidence, name=f"{task}-calibration-{arm}",
            description=text,
        )  # fmt: skip
        caption = (
            f"{text}: observed share against mean probability in bins of nearly equal numbers of cases (above each "
            f"panel bins \N{MULTIPLICATION SIGN} cases), Wilson's {study.confidence} intervals."
        )
        drawn.append({"svg": svg, "caption": caption})
    known = cases[(cases["label"] == KI67) & (cases["arm"] == "federated")]
    if len(known):
        text = f"Bland-Altman plot of Ki-67 by the federated arm on the {whom}"
        svg = ki67_agreement(known, seed_rows(study, task, "federated", seed), name=f"{task}-ki67", description=text)
        drawn.append({"svg": svg, "caption": f"{text} ({len(known)} cases of {known['patient'].nunique()} patients)."})
    return drawn
