"""What the sections on lesion outlines show: plain values for the template, from a run folder and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from server.evaluation.metric_rows import log_scale
from server.reports import metric_text
from server.reports.figures import style
from server.reports.figures.agreement import bland_altman_plot
from server.run_folder.finished_run import RunFolder
from server.run_folder.pictures import VIEWS, read_pictures
from server.run_folder.predictions import select_cases
from server.run_folder.results import ResultRow
from shared.errors import RunError
from shared.metrics.agreement import bland_altman, icc

HEADLINE_ARM = "federated"
_CARDS = ("dice", "hd95", "lesion_f1", "volume_icc_a1")
_COMPARED = ("dice", "hd95", "lesion_f1")
_INTERNAL = ("dice", "hd95", "sensitivity", "ppv")


def headline(run: RunFolder, centre: str | None) -> dict[str, ResultRow]:
    """The chosen model's external figures by metric."""
    best = run.chosen.best
    return {
        row.metric: row
        for row in run.results.rows
        if (row.arm, row.role, row.centre, row.model_hash) == (HEADLINE_ARM, "external", centre, best)
    }


def external(run: RunFolder) -> dict[str, Any] | None:
    """The chosen model at the external centre: cards, table, style, worst cases; `None` without such a centre."""
    centre = run.config.data.external
    if centre is None or run.predictions is None:
        return None
    rows = headline(run, centre)
    if "dice" not in rows:
        raise RunError(f"{run.path.name}/results.json has no external figures of the chosen model at '{centre}'")
    best = run.chosen.best
    cases = select_cases(run.predictions, arm=HEADLINE_ARM, centre=centre, model_hash=best)
    ordered = cases.sort_values(["dice", "case"])
    failures = int(cases["failed"].sum())
    return {
        "centre": centre,
        "n": len(cases),
        "patients": cases["patient"].nunique(),
        "cards": [rows[name] for name in _CARDS if name in rows],
        "rows": list(rows.values()),
        "figures": _external_figures(cases, rows, run.config.evaluation.confidence),
        "failures": f"Failures (one of the two outlines empty): {failures} of {len(cases)}.",
        "worst": ordered.head(max(3, math.ceil(0.05 * len(ordered)))).to_dict("records"),
    }


def _external_figures(cases: pd.DataFrame, rows: dict[str, ResultRow], confidence: float) -> list[dict[str, Any]]:
    log = log_scale(cases)
    strip = "Dice of every external case in order, with the mean and its interval"
    agreement = "Bland-Altman plot of predicted against reference volume"
    size = "Dice against reference volume"
    volumes = "Predicted against reference volume"
    scale = "Ratios, as the spread grows with size; cases without a prediction have none." if log else "Differences."
    return [
        {"svg": style.dice_strip(cases, rows["dice"], strip), "caption": f"{strip}."},
        {
            "svg": bland_altman_plot(cases, rows, log=log, description=agreement),
            "caption": f"{agreement}: bias and 95% limits, bands are their bootstrap intervals. "
            f"{scale} {_normal_theory(cases, log=log, confidence=confidence)}",
        },
        {
            "svg": style.volume_scatter(cases, volumes),
            "caption": f"{volumes}; cases without a prediction are absent.",
        },
        {"svg": style.dice_by_size(cases, size), "caption": f"{size}; crosses: nothing predicted."},
    ]


def _normal_theory(cases: pd.DataFrame, *, log: bool, confidence: float) -> str:
    """The same agreement's classical intervals, which assume normal volumes; nothing where they do not exist."""
    volumes = cases[["volume_ml", "reference_volume_ml"]].to_numpy()
    compared = volumes[(volumes > 0).all(axis=1)] if log else volumes
    try:
        table, limits = icc(volumes, confidence), bland_altman(*compared.T, log=log, confidence=confidence)
    except ValueError:  # too few cases, or volumes that are all the same
        return ""
    low, high = (metric_text.fixed(bound, 3 if log else 2) for bound in limits.bias_interval)
    return (
        f"Normal-theory intervals beside them: bias {low} to {high}{'' if log else ' ml'}, ICC(A,1) "
        f"{metric_text.fixed(table.a1_low, 3)} to {metric_text.fixed(table.a1_high, 3)} (McGraw and Wong)."
    )


def pictures(run: RunFolder) -> list[dict[str, Any]]:
    """The stored cases, drawn; empty when none were stored."""
    if run.predictions is None:
        return []
    best = run.chosen.best
    chosen = run.predictions[(run.predictions["arm"] == HEADLINE_ARM) & (run.predictions["model_hash"] == best)]
    dice = chosen.set_index("case")["dice"]
    captions = {"projection": "maximum intensity projection"}
    return [
        {
            "title": f"{picture.label.capitalize()}: Dice {metric_text.fixed(dice.get(picture.case), 3)}",
            "case": picture.case,
            "views": [
                {
                    "svg": style.view_panel(
                        picture.views[name],
                        name,
                        f"{picture.label}-{name}",
                        f"{picture.label} case, {captions.get(name, name)}: reference and predicted outline",
                    ),
                    "caption": captions.get(name, name),
                }
                for name in VIEWS
            ],
        }
        for picture in read_pictures(run.path)
    ]


def comparison(run: RunFolder) -> dict[str, Any] | None:
    """Other models on the external centre: arms of a study, or the last round beside the chosen one."""
    chosen, lines = run.chosen, {}
    groups: dict[tuple[str, int, str], dict[str, ResultRow]] = {}
    for row in run.results.rows:
        if row.role == "external" and row.centre == run.config.data.external:
            groups.setdefault((row.arm, row.seed, row.model_hash), {})[row.metric] = row
    several = len({seed for _, seed, _ in groups}) > 1
    for (arm, seed, model), rows in groups.items():
        name = arm.replace(":", ": ")
        if arm == HEADLINE_ARM and chosen.best != chosen.final:
            name += {chosen.best: ", chosen round", chosen.final: ", last round"}.get(model, "")
        lines[f"{name}, seed {seed}" if several else name] = rows
    if len(lines) < 2:  # noqa: PLR2004 - one model has nothing to be compared with
        return None
    dice = {name: rows["dice"] for name, rows in lines.items() if "dice" in rows}
    table = [
        {
            "name": name,
            "rows": [rows.get(metric) for metric in _COMPARED],
            "n": max(row.n for row in rows.values()),
        }
        for name, rows in lines.items()
    ]
    columns = ["Dice", "HD95, mm", "Lesion-wise F1"]
    description = "Mean external Dice of each model with its interval"
    label = f"Dice at {run.config.data.external} (n = {table[0]['n']})"
    return {
        "centre": run.config.data.external,
        "columns": columns,
        "lines": table,
        "svg": style.forest(dice, label=label, description=description),
    }


def internal(run: RunFolder) -> list[dict[str, Any]]:
    """Tables of the training sites: test cases first, then the validation cases that chose the round."""
    best = run.chosen.best
    captions = {
        "test": "Test cases of the training sites, never used to train or to choose: chosen round's model.",
        "validation": "Validation cases, which chose the round: optimistic.",
    }
    tables = []
    for role, caption in captions.items():
        sites: dict[str, dict[str, ResultRow]] = {}
        for row in run.results.rows:
            if (row.arm, row.role, row.model_hash) == (HEADLINE_ARM, role, best):
                sites.setdefault(row.centre, {})[row.metric] = row
        if not sites:
            continue
        lines = [
            {
                "site": name,
                "rows": [rows[metric] for metric in _INTERNAL],
                "f1": rows["lesion_f1"],
                "failures": rows["failures"],
                "n": rows["dice"].n,
                "total": name == "all",
            }
            for name, rows in sites.items()
        ]
        tables.append({"caption": caption, "columns": ["Dice", "HD95, mm", "Sensitivity", "PPV"], "lines": lines})
    return tables
