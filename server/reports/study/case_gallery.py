"""Single cases of a study: best, median and worst at each held-out centre, drawn from what was stored."""

from __future__ import annotations

from typing import Any

from server.reports.figures.volume_viewer import volume_figures
from server.reports.sections.pictures import case_panels
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy
from server.run_folder.pictures import read_pictures
from server.run_folder.volumes import read_volumes
from shared.tasks.task import Task

_BACKGROUNDS = {
    "uptake": "First post-contrast minus pre-contrast signal",
    "pre-contrast": "Signal before the contrast agent",
}


def galleries(study: FinishedStudy) -> list[dict[str, Any]]:
    """For each task with pictures one group for each held-out centre; empty where none were stored."""
    drawn = ((task, task.pictures) for task in study.tasks)
    return [
        {
            "title": task.title,
            "background": _BACKGROUNDS[pictures.background],
            "field": f"{pictures.field_mm:g}",
            "groups": groups,
        }
        for task, pictures in drawn
        if pictures and (groups := _groups(study, task))
    ]


def _groups(study: FinishedStudy, task: Task) -> list[dict[str, Any]]:
    table, seed = study.predictions[task.name], study.config.study.seeds[0]
    own = table[(table["role"] == "external") & (table["seed"] == seed) & (table["arm"] == FEDERATED)]
    groups = []
    for centre in study.held_out:
        stored = read_pictures(study.path, task.name, centre)
        if shown := case_panels(stored, task, own, outlines="reference, predicted outline", centre=centre):
            groups.append({"centre": centre, "n": int((own["centre"] == centre).sum()), "pictures": shown})
    return groups


def volumes(study: FinishedStudy) -> list[dict[str, Any]]:
    """For each task with volumes one group for each held-out centre; empty where none were stored."""
    centre_of = dict(zip(study.cohort["case"], study.cohort["centre"], strict=True))
    groups = []
    for task in study.tasks:
        stored = read_volumes(study.path / "volumes" / task.name)
        for centre in study.held_out:
            shown = [item for item in stored if centre_of.get(item.case) == centre]
            if shown:
                name = centre if len(study.tasks) == 1 else f"{task.title}, {centre}"
                groups.append({"name": name, "n": len(shown), "figures": volume_figures(shown)})
    return groups
