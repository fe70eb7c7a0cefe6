"""Volumes and densities of a study: Bland-Altman plots of the federated arm, absolute agreement of every arm."""

from __future__ import annotations

from typing import Any

from server.reports.figures.agreement import DENSITY, VOLUME, bland_altman_plot
from server.reports.study.metric_lookup import Summary, arm_name, axis_name, metric_name, seed_rows
from server.reports.study.study_reader import Study

# Task to what was measured twice, and the rows of agreement.
_AGREEING = {
    "lesion-segmentation": (VOLUME, "lesion volume", "volume_icc_a1",
                            ("volume_bias", "volume_limit_low", "volume_limit_high")),
    "breast-segmentation": (DENSITY, "breast density", "icc_a1_density",
                            ("bias_density", "limit_low_density", "limit_high_density")),
}  # fmt: skip


def agreement(study: Study, task: str) -> dict[str, Any] | None:
    """The plot, ICC by arm and centre, bias and limits by arm; `None` for a task that measures nothing."""
    if task not in _AGREEING:
        return None
    quantity, what, icc, limits = _AGREEING[task]
    seed, table = study.config.study.seeds[0], study.predictions[task]
    cases = table[(table["role"] == "external") & (table["seed"] == seed) & (table["arm"] == "federated")]
    cases = cases[cases[[quantity.predicted, quantity.reference]].notna().all(axis=1)]
    summary = Summary(study, task)
    description = f"Bland-Altman plot of {what}, federated arm, all held-out centres together, seed {seed}"
    svg = bland_altman_plot(
        cases,
        seed_rows(study, task, "federated", seed),
        log=False,
        description=description,
        quantity=quantity,
        name=f"{task}-bland-altman",
    )
    caption = (
        f"{description}: {len(cases)} {study.subject} of {cases['patient'].nunique()} patients, predicted minus "
        f"reference; bias and 95% limits of agreement, bands are their {study.confidence} intervals."
    )
    places = [*study.held_out, "all"]
    return {
        "svg": svg,
        "caption": caption,
        "icc": metric_name(icc),
        "places": places,
        "lines": [
            {"name": arm_name(arm), "cells": [summary.get(arm, place, icc) for place in places]} for arm in summary.arms
        ],
        "limit_names": [axis_name(name, quantity.unit) for name in limits],
        "limits": [
            {"name": arm_name(arm), "cells": [summary.get(arm, "all", name) for name in limits]}
            for arm in summary.arms
            if not arm.startswith("local:")
        ],
    }
