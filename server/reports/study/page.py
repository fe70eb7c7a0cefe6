"""The study's page: from a finished study's folder to one self-contained HTML file, and its figures as vector files.

Every number comes from the statistics' tables, counts of cases from the cohort and the flow. Made again from the same
folder, page and figures have the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from server.reports.figures import vector_files
from server.reports.figures.volume_viewer import viewer_script
from server.reports.metric_text import between, data_of, p_value, rounded
from server.reports.study import (
    agreement,
    case_gallery,
    checklists,
    cohort_table,
    design_schematic,
    flow_diagram,
    headline,
    learning_curves,
    matrix,
    per_centre,
    roc_calibration,
    subgroups,
)
from server.reports.study.metric_lookup import ALL, Summary, arm_name, axis_name, lines_of, place_name
from server.reports.templates import environment
from server.run_folder.finished_study import FinishedStudy, read_finished_study
from server.run_folder.results import replace_file
from shared.tasks.task import Task

STAMP = "PHANTOM DATA, not patients"


def build_study_report(folder: Path) -> Path:
    """Write `report.html` and `figures/` into a finished study's folder, each file atomically; return the page's path.

    Raises
    ------
    RunError
        The folder lacks a file of a finished study, or one is damaged.
    ConfigError
        `study.toml` is not a configuration.

    """
    study, templates = read_finished_study(folder), environment()
    templates.filters |= {item.__name__: item for item in (arm_name, place_name, axis_name, rounded, between, p_value)}
    with vector_files.kept_in(folder / "figures", _stamp(study)):
        content = _content(study)
    replace_file(folder / "report.html", templates.get_template("study.html").render(content).encode())
    return folder / "report.html"


def _content(study: FinishedStudy) -> dict[str, Any]:
    """Everything the template names."""
    taken: set[str] = set()
    blocks = [_block(study, task, taken) for task in study.tasks]
    pictures, volumes = case_gallery.galleries(study), case_gallery.volumes(study)
    shared = {"cases"} if pictures else set()
    anchors = taken | shared | {"design", "flow", "table-1", "provenance", "limits", "model-card"}
    script = viewer_script() if volumes else None
    return {
        "phantom": study.phantom,
        "phantoms": "partly phantoms" if study.provenance.phantom_sites else "phantoms",
        "data_of": data_of(study.provenance),
        "title": headline.title(study),
        "answers": [headline.cards(study, task) for task in study.tasks],
        "remarks": headline.remarks(study),
        "confidence": study.confidence,
        "blocks": blocks,
        "design": design_schematic.design(study),
        "flow": flow_diagram.flow(study),
        "table_1": cohort_table.table_1(study),
        "galleries": pictures,
        "volumes": volumes,
        "script": script,
        "policy": _policy(script),
        "checklists": checklists.checklists(anchors),
        "study": study,
        "every_figure": [_every_figure(study, task) for task in study.tasks],
    }


def _stamp(study: FinishedStudy) -> str:
    """What is written into every figure that can leave the page."""
    which = study.provenance.phantom_sites
    return f"PHANTOM DATA at {', '.join(which)}" if which else STAMP if study.phantom else ""


def _policy(script: str | None) -> str:
    """What the page may load: nothing; and run: the viewer's script alone, known by its hash."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if script is None:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"


def _block(study: FinishedStudy, task: Task, taken: set[str]) -> dict[str, Any]:
    """One task's figures; a part's anchor is its own name for the first task that has it."""
    parts = {
        "forest": per_centre.forests(study, task),
        "differences": per_centre.differences(study, task),
        "matrix": matrix.matrix(study, task),
        "learning": learning_curves.learning(study, task),
        "roc": roc_calibration.scores(study, task),
        "agreement": agreement.agreement(study, task),
        "subgroups": subgroups.subgroups(study, task),
    }
    anchors = {part: part if part not in taken else f"{part}-{task.name}" for part in parts if parts[part]}
    taken |= set(anchors.values())
    return {"task": task.name, "title": task.title, "anchors": anchors, **parts}


def _every_figure(study: FinishedStudy, task: Task) -> dict[str, Any]:
    """Every row of the summary beside each seed's own values: of several models at one centre there are several."""
    by_seed: dict[tuple[Any, ...], list[Any]] = {}
    for line in lines_of(study.tables.results, task):
        key = tuple(line[name] for name in ("arm", "centre", "role", "metric", "seed"))
        by_seed.setdefault(key, []).append(line["value"])
    summary = Summary(study, task)
    order = {arm: place for place, arm in enumerate(summary.arms)}
    rows = sorted(summary.rows, key=lambda row: (order[row.arm], row.role, row.centre != ALL))
    seeds = study.config.study.seeds
    return {
        "title": task.title,
        "lines": [
            (row, [by_seed.get((row.arm, row.centre, row.role, row.metric.name, seed), []) for seed in seeds])
            for row in rows
        ],
    }
