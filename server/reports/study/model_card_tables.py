"""The model card's tables in Markdown: models, data, results, comparisons, subgroups; every figure is a table's own.

Each function gives one table's rows; their heading stands in `model_card.md.j2`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from server.reports.metric_text import DASH, between, data_of, fixed, meaning, p_value, rounded
from server.reports.study.cohort_table import FACTORS
from server.reports.study.metric_lookup import ALL, ARMS, Summary, SummaryRow, lines_of, metric_of, place_name
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy, ModelEntry, StudyProvenance
from server.studies.design import Cell, cell_folder
from shared.tasks.task import Task

_SPECIAL = re.compile(r"[\\`*<>|\[\]]")
Rows = Iterator[Sequence[object]]


def markdown_table(rows: Iterable[Sequence[object]], head: Sequence[str], nothing: str = "") -> str:
    """A table of Markdown in which no cell can break a row or become markup; a sentence where there is no row."""
    lines = ["| " + " | ".join(_cell(item) for item in row) + " |" for row in rows]
    if not lines:
        return nothing
    return "\n".join(["| " + " | ".join(_cell(item) for item in head) + " |", "|---" * len(head) + "|", *lines])


def weights_file(study: FinishedStudy, model: ModelEntry) -> Path:
    """Where a model's weights lie, if the folder kept them."""
    cell = Cell("train", model.held_out, model.task, model.arm, model.seed)
    return cell_folder(study.path, cell) / "models" / model.task / f"round-{model.best_round:03d}.safetensors"


def models(study: FinishedStudy) -> Rows:
    """The round chosen for each federated model, how large it is, where it lies, and its hash."""
    for model in (model for model in study.models if model.arm == FEDERATED):
        path = weights_file(study, model)
        size, place = (f"{_stored(path):,}", path.relative_to(study.path)) if path.is_file() else (DASH, "not kept")
        chosen = f"{model.best_round} of {model.rounds}"
        yield model.task, model.held_out, model.seed, chosen, size, place, model.model_hash


def training(study: FinishedStudy) -> Rows:
    """Cases of every centre by split, what was left out and why, and the hash of the centre's table."""
    for centre, own in study.flow.items():
        left_out = ", ".join(f"{reason} {count}" for reason, count in sorted(own.excluded.items())) or "none"
        splits = [own.splits.get(name, 0) for name in ("train", "validation", "test")]
        data = study.provenance.data.get(centre, DASH)
        yield centre, own.included, _patients(study, centre), *splits, left_out, data


def openings(study: FinishedStudy) -> Rows:
    """When each held-out centre was opened, and how many frozen models waited."""
    for name, opening in study.openings.items():
        patients, at = _patients(study, name), opening.at.isoformat()
        yield name, study.flow[name].included, patients, at, len(opening.models)


def factors(cohort: pd.DataFrame) -> Rows:
    """How the cases are spread over scanners and patients."""
    for column, name in FACTORS.items():
        if column in cohort:
            known = ["unknown" if pd.isna(item) or item == "" else _level(item) for item in cohort[column]]
            yield name, ", ".join(f"{level}: {known.count(level)}" for level in sorted(set(known)))


def metrics(study: FinishedStudy) -> Rows:
    """What each measured figure means, with the study's settings."""
    measured = set(zip(study.tables.summary["task"], study.tables.summary["metric"], strict=True))
    declared = {item.name: item for task in study.tasks for item in task.metrics if (task.name, item.name) in measured}
    for metric in declared.values():
        yield metric.title, "" if metric.unit == "1" else metric.unit, meaning(metric, study.config.evaluation)


def results(study: FinishedStudy, task: Task) -> Rows:
    """The federated model on each held-out centre and on all of them."""
    for row in Summary(study, task).rows:
        if row.arm == FEDERATED and row.role == "external":
            figure = _value(row.value, row.unit), between(row.ci_low, row.ci_high, row.unit)
            counts = row.n, row.patients, row.seeds
            yield row.metric.title, place_name(row.centre), *figure, *counts, row.note or _remark(ranked=row.ranked)


def pooled(study: FinishedStudy, task: Task) -> Rows:
    """Held-out centres pooled by random effects, with the interval in which the next centre is expected."""
    for line in lines_of(study.tables.meta, task):
        metric = metric_of(task, line["metric"])
        arm = line["quantity"].replace(f"{FEDERATED}-", f"{FEDERATED} minus ")
        predicted = between(line["pi_low"], line["pi_high"], metric.unit)
        spread = line["k"], fixed(line["tau2"], 4), fixed(line["i2"], 0)
        yield metric.title, arm, *_estimate(line, metric.unit, "estimate"), predicted, *spread


def arms(study: FinishedStudy, task: Task) -> tuple[list[str], list[tuple[str, ...]]]:
    """Names of the arms, and each figure of every arm on all held-out centres together, side by side."""
    summary = Summary(study, task)
    names, rows = [arm for arm in ARMS if arm in summary.arms], []
    for metric in task.metrics:
        own = [summary.get(arm, ALL, metric) for arm in names]
        if any(own):
            rows.append((metric.title, *(DASH if row is None else _one_cell(row) for row in own)))
    return names, rows


def comparisons(study: FinishedStudy, task: Task) -> Rows:
    """Federated minus each arm: every figure on all centres together, the primary one also by centre."""
    lines = lines_of(study.tables.comparisons, task)
    primary = {line["metric"] for line in lines if line["primary"]}
    for line in (line for line in lines if line["centre"] == ALL or line["metric"] in primary):
        metric = metric_of(task, line["metric"])
        title = metric.title + (" (primary)" if line["primary"] else "")
        difference = _estimate(line, metric.unit, "difference")
        tests = line["n"], p_value(line["p"]), p_value(line["p_holm"])
        yield title, line["arm"], place_name(line["centre"]), *difference, *tests


def subgroups(study: FinishedStudy, task: Task) -> Rows:
    """The federated model in subgroups, and its gain over a centre's own model there."""
    for line in lines_of(study.tables.subgroups, task, arm=FEDERATED):
        metric = metric_of(task, line["metric"])
        group = FACTORS.get(line["factor"], line["factor"]), line["level"]
        figure = *_estimate(line, metric.unit, "value"), line["n"], line["patients"]
        gain = _estimate(line, metric.unit, "difference", "difference_low", "difference_high")
        yield metric.title, *group, *figure, *gain, p_value(line["p_bh"]), _remark(ranked=line["ranked"])


def provenance(made: StudyProvenance) -> Rows:
    """What made the study."""
    yield "code", made.git or "unknown commit"
    yield "versions", ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items()))
    yield "machine", ", ".join(f"{name} {value}" for name, value in sorted(made.machine.items()))
    yield "computing time, s", f"{made.seconds:.0f}"
    yield "data", data_of(made)
    for centre, plan in made.plans.items():
        yield f"plan, {centre} held out", plan


def _estimate(
    line: Mapping[str, Any], unit: str, key: str, low: str = "ci_low", high: str = "ci_high"
) -> tuple[str, str]:
    return _value(line[key], unit), between(line[low], line[high], unit)


def _value(value: float | None, unit: str) -> str:
    """A figure with its unit; what does not exist is said."""
    return "undefined" if pd.isna(value) else rounded(value, unit) + ("" if unit == "1" else f" {unit}")


def _one_cell(row: SummaryRow) -> str:
    bounds = between(row.ci_low, row.ci_high, row.unit)
    return f"{_value(row.value, row.unit)} ({bounds}), n {row.n}" + ("" if row.ranked else "; thin")


def _remark(*, ranked: bool) -> str:
    return "" if ranked else "thin: not ranked"


def _level(item: object) -> str:
    return f"{item:g}" if isinstance(item, float) else str(item)


def _cell(item: object) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(str(item).split()))


def _patients(study: FinishedStudy, centre: str) -> int:
    return int(study.cohort.loc[study.cohort["centre"] == centre, "patient"].nunique())


def _stored(path: Path) -> int:
    """Numbers in a file of weights, running statistics included; only its header is read."""
    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
