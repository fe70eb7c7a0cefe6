"""Scores of binary labels on a page: AUC by arm, its figures, thresholds, tests between arms, and all further figures.

Every AUC stands beside its counts; with fewer than ten cases of a class it is shown and not ranked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from server.evaluation.arm_comparison import compare_arms
from server.reports.metric_text import between, fixed, listed, meaning, p_value, within
from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.figure_table import Column, figure_table
from server.reports.sections.score_figures import score_figures
from server.run_folder.arms import ASYMMETRY, END_TO_END, FEDERATED, ORACLE
from server.run_folder.results import ResultRow
from shared.cohort.labels import Label
from shared.metrics.metric import Metric


def scores(data: ExternalData, *, compared: bool = True) -> dict[str, Any] | None:
    """All that `scores.html` shows of a task; None of one that scores no label.

    Without `compared` only what concerns the model alone, not one arm against another.
    """
    if not data.task.scored:
        return None
    return {
        "fewest": FEWEST,
        "auc": auc_table(data) if compared else None,
        "figures": score_figures(data, compared=compared),
        "thresholds": _threshold_table(data),
        "tests": differences(data) if compared else None,
        "further": _further_table(data),
    }


def auc_table(data: ExternalData) -> dict[str, Any] | None:
    """One line per arm, one column per label; None where no case has a label."""
    metrics = data.areas
    if not metrics:
        return None
    columns = [
        Column(metric.name, data.area_name(metric), note=_count(metric, data), few=data.few(metric))
        for metric in metrics
    ]
    undefined = [
        metric for metric in metrics if any(_is_undefined(rows.get(metric.name)) for rows in data.rows.values())
    ]
    return figure_table("Arm", columns, {data.arm_name(arm): rows for arm, rows in data.rows.items()}) | {
        "notes": [f"{data.area_name(metric)}, {_why_undefined(metric, data)}" for metric in undefined],
        "remarks": list(_remarks(data)),
    }


def _threshold_table(data: ExternalData) -> dict[str, Any] | None:
    """Shares at the frozen thresholds, one line per label and outline; rivals have thresholds of their own or none."""
    metrics = [metric for metric in data.task.metrics if any(name.startswith("threshold_") for name in metric.columns)]
    return _label_table(data, metrics, [arm for arm in (FEDERATED, END_TO_END) if arm in data.rows], each_n=True)


def _further_table(data: ExternalData) -> dict[str, Any] | None:
    """Every figure of a single label that no other table has, one line per label, of the chosen model alone."""
    metrics = [
        metric
        for metric in data.task.metrics
        if len(metric.labels) == 1
        and metric.sent != "histogram"
        and not any(name.startswith("threshold_") for name in metric.columns)
    ]
    return _label_table(data, metrics, [FEDERATED])


def _label_table(
    data: ExternalData, metrics: Sequence[Metric], arms: Sequence[str], *, each_n: bool = False
) -> dict[str, Any] | None:
    """One line per label and arm, one column per kind of figure, which is a metric's title without the label's."""
    lines: dict[str, dict[str, ResultRow]] = {}
    meanings: dict[str, str] = {}
    units: dict[str, str] = {}
    for label in data.task.scored:
        own = {_kind(metric, label): metric for metric in metrics if metric.labels == (label.name,)}
        for arm in arms:
            rows = {kind: data.rows[arm][metric.name] for kind, metric in own.items() if metric.name in data.rows[arm]}
            if rows:
                few = " (few)" if any(data.few(metric) for metric in own.values()) else ""
                outline = f", {within(data.arm_name(arm))}" if len(arms) > 1 else ""
                lines[f"{label.title}{few}{outline}"] = rows
        meanings |= {kind: meaning(metric, data.run.config.evaluation) for kind, metric in own.items()}
        units |= {kind: "" if metric.unit == "1" else metric.unit for kind, metric in own.items()}
    columns = [Column(kind, kind, units[kind]) for kind in meanings]
    return figure_table("Label", columns, lines, each_n=each_n) | {"meaning_of": meanings} if lines else None


def _kind(metric: Metric, label: Label) -> str:
    return metric.title.replace(f", {label.title}", "", 1)


def _count(metric: Metric, data: ExternalData) -> str:
    """Positive cases of all below a label's name, and whether they are few."""
    count = "{} of {}".format(*data.counts(metric.labels[0])) if len(metric.labels) == 1 else ""
    return ": ".join(part for part in (count, "few" if data.few(metric) else "") if part)


def _why_undefined(metric: Metric, data: ExternalData) -> str:
    """Why an AUC does not exist."""
    if len(metric.labels) > 1:
        return "a mean needs an AUC of each label"
    positives, n = data.counts(metric.labels[0])
    return f"{positives} of {n} cases positive, both classes are needed" if n else "no case here has the label"


def _is_undefined(row: ResultRow | None) -> bool:
    return row is not None and row.value is None


def _remarks(data: ExternalData) -> Iterator[str]:
    """What each kind of arm is, of those that are there."""
    if END_TO_END in data.rows:
        yield (
            "End to end: in the outline that the federation predicted itself; where it predicted none, a case gets "
            "the mean scores of the others."
        )
    if any(name.endswith(" alone") for name in map(data.arm_name, data.rows)):
        outline = ", in the reference outline" if data.task.reads_outline else ""
        yield f"Alone: by one part of the network{outline}."
    if ASYMMETRY in data.rows:
        yield (
            "Asymmetry: the model's odds for a breast divided by its odds for the other one of the exam, where both "
            "were read; nothing was fitted. It gains most where every patient has one positive breast, as phantoms "
            "do, and cannot tell two."
        )
    for arm in data.rivals:
        yield f"{data.arm_name(arm)}: {data.rivals[arm]}."
    if ORACLE in data.rows:
        yield "Best possible: what no classifier can exceed on these phantoms, from many more simulated cases."


def differences(data: ExternalData) -> dict[str, Any] | None:
    """Differences of AUC from the chosen model in the reference outline, one line per arm; Holm over all of them."""
    metrics = data.areas
    if not metrics or data.cases["arm"].nunique() < 2:  # noqa: PLR2004 - one arm has no other to differ from
        return None
    evaluation, seed = data.run.config.evaluation, next(iter(data.own.values())).seed
    table = compare_arms(data.cases, FEDERATED, metrics, evaluation, seed=seed)
    tests = {(item["arm"], item["metric"]): item for item in table.to_dict("records")}
    shown = [metric for metric in metrics if metric.name in set(table["metric"])]
    lines = []
    for arm in data.rows:
        own = [tests.get((arm, metric.name)) for metric in shown]
        if numbers := {item["n"] for item in own if item}:
            n = str(max(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
            lines.append({"arm": data.arm_name(arm), "cells": [_tested(item) for item in own], "n": n})
    once = data.cases.drop_duplicates("case")["patient"].is_unique
    method = "DeLong's paired test" if once else "a paired bootstrap of patients, as some have two cases"
    if any(len(metric.labels) > 1 for metric in shown):
        method += "; of the mean a paired bootstrap without p, as it sums up the tests beside it"
    return {
        "than": f"the {data.name}" if data.name else "the reference outline",
        "columns": [{"title": data.area_name(metric), "few": data.few(metric)} for metric in shown],
        "lines": lines,
        "method": method,
        "family": int(table["p"].notna().sum()),
        "left_out": _left_out(data),
    }


def _tested(item: Mapping[Any, Any] | None) -> dict[str, str] | None:
    if item is None:
        return None
    return {
        "difference": fixed(item["difference"], 3),
        "interval": "" if np.isnan(item["low"]) else between(item["low"], item["high"], "1"),
        "p": "" if np.isnan(item["p"]) else f"p {p_value(item['p'])}, Holm {p_value(item['p_holm'])}",
    }


def _left_out(data: ExternalData) -> str:
    """Cases that only one of two arms answered, by rival; empty where there is no rival."""
    scores = [f"score_{label}" for label in data.label_areas]
    answered = data.cases[data.cases[scores].notna().any(axis=1)]
    cases = {arm: set(own["case"]) for arm, own in answered.groupby("arm")}
    apart = {arm: len(cases[FEDERATED] ^ cases.get(arm, set())) for arm in data.rivals}
    if not apart:
        return ""
    if not any(apart.values()):
        return "All answered the same cases."
    counts = listed([f"{n} with {within(data.arm_name(arm))}" for arm, n in apart.items() if n])
    return f"Left out, as only one of the two answered them: {counts}."
