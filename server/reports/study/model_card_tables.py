"""The model card's tables in Markdown: models, data, results, comparisons, subgroups; every figure is a table's own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from server.reports.metric_text import DASH, fixed
from server.reports.study.cohort_table import FACTORS
from server.reports.study.metric_lookup import (
    ALL,
    ARMS,
    Summary,
    SummaryRow,
    between,
    lines_of,
    metric_of,
    p_value,
    place_name,
    rounded,
)
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy, ModelEntry
from server.studies.design import Cell, cell_folder
from shared.tasks.task import Task

_SPECIAL = re.compile(r"[\\`*<>|\[\]]")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> str:
    """A table of Markdown in which no cell can break a row or become markup; a sentence where there is no row."""
    lines = ["| " + " | ".join(_cell(item) for item in row) + " |" for row in rows]
    if not lines:
        return nothing
    return "\n".join(["| " + " | ".join(_cell(item) for item in head) + " |", "|---" * len(head) + "|", *lines])


def weights_file(study: FinishedStudy, model: ModelEntry) -> Path:
    """Where a model's weights lie, if the folder kept them."""
    cell = Cell("train", model.held_out, model.task, model.arm, model.seed)
    return cell_folder(study.path, cell) / "models" / model.task / f"round-{model.best_round:03d}.safetensors"


def models_table(study: FinishedStudy) -> str:
    """The round chosen for each federated model, how large it is, where it lies, and its hash."""
    rows = []
    for model in (model for model in study.models if model.arm == FEDERATED):
        path = weights_file(study, model)
        size, place = (f"{_stored(path):,}", path.relative_to(study.path)) if path.is_file() else (DASH, "not kept")
        chosen = f"{model.best_round} of {model.rounds}"
        rows.append((model.task, model.held_out, model.seed, chosen, size, place, model.model_hash))
    head = ("task", "held out", "seed", "round chosen", "numbers stored", "file", "SHA-256 of the weights")
    return markdown_table(head, rows, "No federated model was trained.")


def training_table(study: FinishedStudy) -> str:
    """Cases of every centre by split, what was left out and why, and the hash of the centre's table."""
    rows = []
    for centre, own in study.flow.items():
        left_out = ", ".join(f"{reason} {count}" for reason, count in sorted(own.excluded.items())) or "none"
        splits = [own.splits.get(name, 0) for name in ("train", "validation", "test")]
        data = study.provenance.data.get(centre, DASH)
        rows.append((centre, own.included, _patients(study, centre), *splits, left_out, data))
    head = ("centre", "cases", "patients", "train", "validation", "test", "left out", "SHA-256 of its table")
    return markdown_table(head, rows, "No centre is listed.")


def openings_table(study: FinishedStudy) -> str:
    """When each held-out centre was opened, and how many frozen models waited."""
    rows = [
        (name, study.flow[name].included, _patients(study, name), opening.at.isoformat(), len(opening.models))
        for name, opening in study.openings.items()
    ]
    head = ("held out", "cases", "patients", "opened, once", "models frozen before")
    return markdown_table(head, rows, "No centre was opened.")


def factors_table(cohort: pd.DataFrame) -> str:
    """How the cases are spread over scanners and patients."""
    rows = []
    for column, name in FACTORS.items():
        if column in cohort:
            known = ["unknown" if pd.isna(item) or item == "" else _level(item) for item in cohort[column]]
            rows.append((name, ", ".join(f"{level}: {known.count(level)}" for level in sorted(set(known)))))
    return markdown_table(("factor", "cases"), rows, "No factor is known.")


@dataclass(frozen=True, slots=True)
class TaskTables:
    """The tables of one task."""

    study: FinishedStudy
    task: Task

    @property
    def interval(self) -> str:
        """Heading of a column of intervals."""
        return f"{self.study.confidence} interval"

    def results(self) -> str:
        """The federated model on each held-out centre and on all of them."""
        rows = [
            (
                *(row.metric.title, place_name(row.centre), _value(row.value, row.unit)),
                *(between(row.ci_low, row.ci_high, row.unit), row.n, row.patients, row.seeds),
                row.note or _remark(ranked=row.ranked),
            )
            for row in Summary(self.study, self.task).rows
            if row.arm == FEDERATED and row.role == "external"
        ]
        head = ("figure", "centre", "value", self.interval, "cases", "patients", "seeds", "remark")
        return markdown_table(head, rows, "Nothing was evaluated.")

    def pooled(self) -> str:
        """Held-out centres pooled by random effects, with the interval in which the next centre is expected."""
        rows = []
        for line in lines_of(self.study.tables.meta, self.task):
            metric = metric_of(self.task, line["metric"])
            rows.append(
                (
                    *(metric.title, line["quantity"].replace(f"{FEDERATED}-", f"{FEDERATED} minus ")),
                    *_estimate(line, metric.unit, "estimate"),
                    *(between(line["pi_low"], line["pi_high"], metric.unit), line["k"]),
                    *(fixed(line["tau2"], 4), fixed(line["i2"], 0)),
                )
            )
        head = ("figure", "arm", "pooled", self.interval, "prediction interval", "centres", "tau2", "I2, %")
        return markdown_table(head, rows, "Too few held-out centres to pool.")

    def arms(self) -> str:
        """Every arm on all held-out centres together, side by side."""
        summary = Summary(self.study, self.task)
        arms = [arm for arm in ARMS if arm in summary.arms]
        rows = []
        for metric in self.task.metrics:
            own = [summary.get(arm, ALL, metric) for arm in arms]
            if any(own):
                rows.append((metric.title, *(DASH if row is None else _one_cell(row) for row in own)))
        return markdown_table(("figure", *arms), rows, "Nothing was evaluated on all held-out centres together.")

    def comparisons(self) -> str:
        """Federated minus each arm: every figure on all centres together, the primary one also by centre."""
        lines = lines_of(self.study.tables.comparisons, self.task)
        primary = {line["metric"] for line in lines if line["primary"]}
        rows = []
        for line in (line for line in lines if line["centre"] == ALL or line["metric"] in primary):
            metric = metric_of(self.task, line["metric"])
            rows.append(
                (
                    *(
                        metric.title + (" (primary)" if line["primary"] else ""),
                        line["arm"],
                        place_name(line["centre"]),
                    ),
                    *_estimate(line, metric.unit, "difference"),
                    *(line["n"], p_value(line["p"]), p_value(line["p_holm"])),
                )
            )
        head = ("figure", "federated minus", "centre", "difference", self.interval, "cases", "p", "p, Holm")
        return markdown_table(head, rows, "No arm stands beside the federation.")

    def subgroups(self) -> str:
        """The federated model in subgroups, and its gain over a centre's own model there."""
        rows = []
        for line in lines_of(self.study.tables.subgroups, self.task, arm=FEDERATED):
            metric = metric_of(self.task, line["metric"])
            rows.append(
                (
                    *(metric.title, FACTORS.get(line["factor"], line["factor"]), line["level"]),
                    *(*_estimate(line, metric.unit, "value"), line["n"], line["patients"]),
                    *_estimate(line, metric.unit, "difference", "difference_low", "difference_high"),
                    *(p_value(line["p_bh"]), _remark(ranked=line["ranked"])),
                )
            )
        head = ("figure", "factor", "level", "value", self.interval, "cases", "patients", "minus local", self.interval)
        return markdown_table((*head, "p, adjusted", "remark"), rows, "No subgroup is known.")


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
