"""From finished cells to the few files that statistics and report read: a study without its models and images."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from server.run_folder.external_access import OPENED
from server.run_folder.journal import RunFolder
from server.run_folder.phantoms import folders_of_phantoms, of_phantoms
from server.run_folder.predictions import predictions_path
from server.run_folder.provenance import git_commit, package_versions
from server.run_folder.results import replace_file, write_parquet
from server.studies.design import HELD_OUT, Cell, Design, cell_folder, evaluated_path, fold_folder, trained
from shared.cohort.labels import COLUMNS, CaseLabels, Label
from shared.cohort.manifest import TABLE_NAME, CaseRow
from shared.cohort.site_folder import patient_of
from shared.runtime.project import project_root
from shared.site import run_cohort
from shared.tasks import task_named

_AGE_BANDS = ((50.0, "<50"), (70.0, "50-69"), (float("inf"), ">=70"))


def collect(root: Path, design: Design) -> None:
    """Gather a finished study's predictions, curves, counts and provenance into its folder, each file atomically."""
    for task in design.config.tasks:
        tables = [
            pd.read_parquet(evaluated_path(root, Cell("evaluate", fold, task, "", seed)))
            for fold in design.folds
            for seed in design.config.study.seeds
        ]
        whole = pd.concat(tables, ignore_index=True)
        keys = ["held_out", "role", "centre", "case", "arm", "seed"]
        write_parquet(root / predictions_path(task), whole.sort_values(keys, ignore_index=True))
    cells = [cell for fold in design.folds for cell in design.trainings(fold)]
    entries = [trained(root, cell)[0] for cell in cells]
    _write_json(root / "cells.json", entries)
    write_parquet(root / "curves.parquet", pd.DataFrame([line for cell in cells for line in _curve(root, cell)]))
    write_parquet(root / "cohort.parquet", _cohort(root, design))
    _write_json(root / "flow.json", _flow(root, design))
    opened = {fold: json.loads((fold_folder(root, fold) / OPENED).read_text(encoding="utf-8")) for fold in design.folds}
    _write_json(
        root / "opened.json",
        {fold: {"at": item["at"], "models": item["model_hashes"]} for fold, item in opened.items()},
    )
    _write_json(root / "provenance.json", _provenance(root, design, sum(entry["seconds"] for entry in entries)))


def _curve(root: Path, cell: Cell) -> list[dict[str, Any]]:
    """A model's rounds: mean training loss, weighted by cases, and what chooses the round on validation cases."""
    lines = []
    for record in RunFolder(cell_folder(root, cell)).records(cell.task)[1:]:
        known = [site for site in record.sites.values() if site.loss is not None]
        cases = sum(site.cases for site in known)
        sums = record.validation()
        score = task_named(cell.task).choice.of(sums)
        lines.append(
            {
                "task": cell.task,
                "held_out": cell.centre,
                "arm": cell.arm,
                "seed": cell.seed,
                "round": record.round,
                "loss": sum(site.cases * (site.loss or 0.0) for site in known) / cases if cases else float("nan"),
                "score": float("nan") if score is None else score,
                "n": sums.n,
            }
        )
    return lines


def _cohort(root: Path, design: Design) -> pd.DataFrame:
    """What figures are stratified by, one row for each case: bands and labels, never an identifier."""
    config = design.config
    volumes: dict[str, float] = {}
    labels = {label.name: label for label in COLUMNS}
    for task in map(task_named, config.tasks):
        labels |= {label.name: label for label in task.labels}
        if task.gives_outline:
            _, reference = task.pairs[0].columns
            table = pd.read_parquet(root / predictions_path(task.name), columns=["case", reference])
            volumes |= dict(zip(table["case"], table[reference], strict=True))
    rows = []
    for centre in config.centres:
        cohort = run_cohort(project_root() / config.data.root / centre, config)
        for case in cohort.cases:
            row = case.row
            own = {name: _value(label, row.labels) for name, label in labels.items()}
            rows.append(
                {
                    "case": case.key,
                    "patient": patient_of(case.key),
                    "centre": centre,
                    "manufacturer": row.manufacturer or "",
                    "field_strength_t": row.field_strength_t,
                    "density": row.density or "",
                    "age_band": _age_band(row),
                    "reference_volume_ml": volumes.get(case.key),
                    **own,
                }
            )
    numbers = ["field_strength_t", "reference_volume_ml", *(n for n, item in labels.items() if item.kind != "classes")]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))


def _age_band(row: CaseRow) -> str:
    return "" if row.age is None else next(name for limit, name in _AGE_BANDS if row.age < limit)


def _value(label: Label, labels: CaseLabels) -> float | str | None:
    return labels.value(label.name) if label.kind != "classes" else getattr(labels, label.name, None) or ""


def _flow(root: Path, design: Design) -> dict[str, dict[str, Any]]:
    """Cases of each centre: included by split as it trains, left out by reason, evaluated when it is held out."""
    flow: dict[str, dict[str, Any]] = {}
    for fold in design.folds:
        for name, item in RunFolder(fold_folder(root, fold)).flow().items():
            included, excluded = dict(item["included"]), dict(item["excluded"])  # type: ignore[call-overload]
            flow[name] = {"included": sum(included.values()), "excluded": excluded, "splits": included}
    for fold in design.folds:
        own = json.loads((fold_folder(root, fold) / HELD_OUT).read_text(encoding="utf-8"))
        never_trained = {"included": own["evaluated"], "excluded": own["excluded"], "splits": {}}
        flow[fold] = flow.get(fold, never_trained) | {"held_out": own["evaluated"]}
    return flow


def _provenance(root: Path, design: Design, seconds: float) -> dict[str, Any]:
    """What made the study; `seconds` is the training time of all its models together."""
    config = design.config
    data = project_root() / config.data.root
    path = root / "provenance.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    phantom, phantom_sites = of_phantoms(config, folders_of_phantoms(config))
    plans = {fold: RunFolder(fold_folder(root, fold)).plans() for fold in design.folds}
    return {
        "name": config.name,
        "created": before.get("created", datetime.now(UTC).isoformat(timespec="seconds")),
        "git": git_commit(),
        "versions": package_versions(),
        "phantom": phantom,
        "phantom_sites": phantom_sites,
        "seconds": round(seconds, 1),
        "machine": {"cores": os.cpu_count()},
        "plans": {fold: ", ".join(plan.hash() for plan in own.values()) for fold, own in plans.items() if own},
        "data": {name: hashlib.sha256((data / name / TABLE_NAME).read_bytes()).hexdigest() for name in config.centres},
    }


def _write_json(path: Path, content: Any) -> None:
    replace_file(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
