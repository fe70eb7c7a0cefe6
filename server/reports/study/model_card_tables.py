"""The model card's tables in Markdown: models, data, results, comparisons, subgroups; every figure is a table's own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from server.reports.metric_text import DASH, fixed
from server.reports.study.metric_lookup import ARMS, between, metric_name, p_value, rounded
from server.reports.study.study_reader import Cell, Study
from server.run_folder.arms import FEDERATED
from server.studies import paths
from server.studies.design import Cell as Work
from shared.tasks import task_named

_ALL = {"all": "all held-out centres"}
_FACTORS = {
    "manufacturer": "manufacturer",
    "field_strength_t": "field strength, T",
    "density": "breast density",
    "age_band": "age",
    "size": "lesion size",
}
_SPECIAL = re.compile(r"[\\`*<>|\[\]]")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> str:
    """A table of Markdown in which no cell can break a row or become markup; a sentence where there is no row."""
    lines = ["| " + " | ".join(_cell(item) for item in row) + " |" for row in rows]
    if not lines:
        return nothing
    return "\n".join(["| " + " | ".join(_cell(item) for item in head) + " |", "|---" * len(head) + "|", *lines])


def federated_models(study: Study) -> list[tuple[Cell, Path | None]]:
    """The federated model of each task, fold and seed, and the file that holds it if the folder kept it."""
    return [(cell, _weights(study.path, cell)) for cell in study.cells if cell.arm == FEDERATED]


def models_table(study: Study) -> str:
    """The round chosen for each federated model, how large it is, where it lies, and its hash."""
    rows = []
    for cell, path in federated_models(study):
        place = (f"{_stored(path):,}", path.relative_to(study.path).as_posix()) if path else (DASH, "not kept")
        rows.append(
            (cell.task, cell.held_out, cell.seed, f"{cell.best_round} of {cell.rounds}", *place, cell.model_hash)
        )
    head = ("task", "held out", "seed", "round chosen", "numbers stored", "file", "SHA-256 of the weights")
    return markdown_table(head, rows, "No federated model was trained.")


def training_table(study: Study) -> str:
    """Cases of every centre by split, what was left out and why, and the hash of the centre's table."""
    rows = []
    for centre, found in study.flow.items():
        left_out = ", ".join(f"{reason} {count}" for reason, count in sorted(found.excluded.items())) or "none"
        splits = [found.splits.get(name, 0) for name in ("train", "validation", "test")]
        data = study.provenance.data.get(centre, DASH)
        rows.append((centre, found.included, _patients(study, centre), *splits, left_out, data))
    head = ("centre", "cases", "patients", "train", "validation", "test", "left out", "SHA-256 of its table")
    return markdown_table(head, rows, "No centre is listed.")


def opened_table(study: Study) -> str:
    """When each held-out centre was opened, and how many frozen models waited."""
    rows = [
        (name, study.flow[name].included, _patients(study, name), found.at.isoformat(), len(found.models))
        for name, found in study.opened.items()
    ]
    head = ("held out", "cases", "patients", "opened, once", "models frozen before")
    return markdown_table(head, rows, "No centre was opened.")


def factors_table(cohort: pd.DataFrame) -> str:
    """How the cases are spread over scanners and patients."""
    rows = []
    for column, name in _FACTORS.items():
        if column in cohort:
            known = ["unknown" if pd.isna(item) or item == "" else _level(item) for item in cohort[column]]
            rows.append((name, ", ".join(f"{level}: {known.count(level)}" for level in sorted(set(known)))))
    return markdown_table(("factor", "cases"), rows, "No factor is known.")


def results_table(summary: pd.DataFrame, confidence: str) -> str:
    """The federated model on each held-out centre and on all of them."""
    found = summary[(summary["arm"] == FEDERATED) & (summary["role"] == "external")]
    rows = [
        (
            *(metric_name(item["metric"]), _ALL.get(item["centre"], item["centre"]), *_estimate(item, "value")),
            *(item["n"], item["patients"], item["seeds"], item["note"] or _remark(item)),
        )
        for item in _lines(found)
    ]
    head = ("figure", "centre", "value", confidence, "cases", "patients", "seeds", "remark")
    return markdown_table(head, rows, "Nothing was judged.")


def meta_table(meta: pd.DataFrame, confidence: str) -> str:
    """Held-out centres pooled by random effects, with the interval in which the next centre is expected."""
    rows = [
        (
            *(metric_name(item["metric"]), item["quantity"].replace("federated-", "federated minus ")),
            *_estimate(item, "estimate"),
            *(between(item["pi_low"], item["pi_high"], item["unit"]), item["k"]),
            *(fixed(item["tau2"], 4), fixed(item["i2"], 0)),
        )
        for item in _lines(meta)
    ]
    head = ("figure", "arm", "pooled", confidence, "prediction interval", "centres", "tau2", "I2, %")
    return markdown_table(head, rows, "Too few held-out centres to pool.")


def arms_table(summary: pd.DataFrame) -> str:
    """Every arm on all held-out centres together, side by side."""
    found = summary[(summary["centre"] == "all") & (summary["role"] == "external")]
    by = {(item["metric"], item["arm"]): item for item in _lines(found)}
    arms = [arm for arm in ARMS if arm in set(found["arm"])]
    rows = []
    for metric in found["metric"].unique():
        own = [by.get((metric, arm)) for arm in arms]
        rows.append((metric_name(metric), *(DASH if item is None else _one_cell(item) for item in own)))
    return markdown_table(("figure", *arms), rows, "Nothing was judged on all held-out centres together.")


def comparisons_table(comparisons: pd.DataFrame, units: Mapping[str, str], confidence: str) -> str:
    """Federated minus each arm: every figure on all centres together, the primary one also by centre."""
    primary = set(comparisons.loc[comparisons["primary"], "metric"])
    found = comparisons[(comparisons["centre"] == "all") | comparisons["metric"].isin(primary)]
    rows = [
        (
            *(metric_name(item["metric"]) + (" (primary)" if item["primary"] else ""), item["arm"]),
            _ALL.get(item["centre"], item["centre"]),
            *_estimate(item | {"unit": units.get(item["metric"], "1")}, "difference"),
            *(item["n"], p_value(item["p"]), p_value(item["p_holm"])),
        )
        for item in _lines(found)
    ]
    head = ("figure", "federated minus", "centre", "difference", confidence, "cases", "p", "p, Holm")
    return markdown_table(head, rows, "No arm stands beside the federation.")


def subgroups_table(subgroups: pd.DataFrame, units: Mapping[str, str], confidence: str) -> str:
    """The federated model in subgroups, and its gain over a centre's own model there."""
    rows = []
    for item in _lines(subgroups[subgroups["arm"] == FEDERATED]):
        of = item | {"unit": units.get(item["metric"], "1")}
        rows.append(
            (
                *(metric_name(item["metric"]), _FACTORS.get(item["factor"], item["factor"]), item["level"]),
                *(*_estimate(of, "value"), item["n"], item["patients"]),
                *_estimate(of, "difference", "difference_low", "difference_high"),
                *(p_value(item["p_bh"]), _remark(item)),
            )
        )
    head = ("figure", "factor", "level", "value", confidence, "cases", "patients", "minus local", confidence)
    return markdown_table((*head, "p, adjusted", "remark"), rows, "No subgroup is known.")


def _estimate(item: Mapping[str, Any], key: str, low: str = "ci_low", high: str = "ci_high") -> tuple[str, str]:
    """A figure with its unit, and its interval; what does not exist is said."""
    unit = "" if item["unit"] == "1" else f" {item['unit']}"
    text = "undefined" if pd.isna(item[key]) else rounded(item[key], item["unit"]) + unit
    return text, between(item[low], item[high], item["unit"])


def _one_cell(item: Mapping[str, Any]) -> str:
    text, bounds = _estimate(item, "value")
    return f"{text} ({bounds}), n {item['n']}" + ("" if item["ranked"] else "; thin")


def _remark(item: Mapping[str, Any]) -> str:
    return "" if item["ranked"] else "thin: not ranked"


def _level(item: object) -> str:
    return f"{item:g}" if isinstance(item, float) else str(item)


def _cell(item: object) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(str(item).split()))


def _lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): item for key, item in row.items()} for row in table.to_dict("records")]


def _patients(study: Study, centre: str) -> int:
    return int(study.cohort.loc[study.cohort["centre"] == centre, "patient"].nunique())


def _weights(folder: Path, cell: Cell) -> Path | None:
    work = Work("train", cell.held_out, task_named(cell.task).name, cell.arm, cell.seed)
    path = paths.cell_folder(folder, work) / "models" / cell.task / f"round-{cell.best_round:03d}.safetensors"
    return path if path.is_file() else None


def _stored(path: Path) -> int:
    """Numbers in a file of weights, running statistics included; only its header is read."""
    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
