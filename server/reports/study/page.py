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
from server.reports.study import (
    agreement,
    appendix,
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
from server.reports.templates import environment
from server.run_folder.finished_study import FinishedStudy, read_finished_study
from server.run_folder.results import replace_file
from shared.tasks.task import Task

STAMP = "PHANTOM DATA, not patients"
PARTS = {
    "forest": "By centre",
    "differences": "Differences",
    "matrix": "Arms by centres",
    "learning": "Learning",
    "roc": "ROC and calibration",
    "agreement": "Agreement",
    "subgroups": "Subgroups",
}
"""Parts of a task's block, in the order of the page."""


def build_study_report(folder: Path) -> Path:
    """Write `report.html` and `figures/` into a finished study's folder, each file atomically; return the page's path.

    Raises
    ------
    RunError
        The folder lacks a file of a finished study, or one is damaged.
    ConfigError
        `study.toml` is not a configuration.

    """
    study = read_finished_study(folder)
    with vector_files.kept_in(folder / "figures", STAMP if study.phantom else ""):
        content = _content(study)
    replace_file(folder / "report.html", environment().get_template("study.html").render(content).encode())
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
        "name": study.provenance.name,
        "created": f"{study.provenance.created:%Y-%m-%d %H:%M} UTC",
        "phantom": study.phantom,
        "title": headline.title(study),
        "answers": [headline.cards(study, task) for task in study.tasks],
        "remarks": headline.remarks(study),
        "confidence": study.confidence,
        "resamples": f"{study.config.evaluation.bootstrap:,}",
        "blocks": blocks,
        "parts": PARTS,
        "weak": per_centre.WEAK,
        "design": design_schematic.design(study),
        "flow": flow_diagram.flow(study),
        "table_1": cohort_table.table_1(study),
        "galleries": pictures,
        "volumes": volumes,
        "script": script,
        "policy": _policy(script),
        "checklists": checklists.checklists(anchors),
        "every_figure": [appendix.every_figure(study, task) for task in study.tasks],
        "provenance": appendix.provenance(study),
        "openings": appendix.openings(study),
        "models": appendix.models(study),
        "limits": appendix.limits(study),
        "config_text": study.config_text,
    }


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
