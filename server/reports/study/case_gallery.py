"""Single cases of a study: best, median and worst at each held-out centre, drawn from what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.reports import metric_text
from server.reports.figures import style
from server.reports.figures.volume_viewer import volume_figures
from server.reports.study.study_reader import Study
from server.run_folder.pictures import VIEWS, read_pictures
from server.run_folder.volumes import read_volumes

TASK = "lesion-segmentation"
_FULL = {"projection": "maximum intensity projection"}


def cases(study: Study) -> list[dict[str, Any]]:
    """A group a held-out centre; empty where no pictures were stored."""
    if TASK not in study.predictions:
        return []
    table, seed = study.predictions[TASK], study.config.study.seeds[0]
    judged = table[(table["role"] == "external") & (table["seed"] == seed) & (table["arm"] == "federated")]
    dice = judged.set_index("case")["dice"]
    groups = []
    for centre in study.held_out:
        pictures = read_pictures(study.path, Path("pictures") / centre)
        shown = [
            {
                "title": f"{picture.label.capitalize()}: Dice {metric_text.fixed(dice.get(picture.case), 3)}",
                "case": picture.case,
                "views": [
                    {
                        "svg": style.view_panel(
                            picture.views[name],
                            name,
                            f"{centre}-{picture.label}-{name}",
                            f"{centre}, {picture.label} case, {_FULL.get(name, name)}: reference, predicted outline",
                        ),
                        "caption": _FULL.get(name, name),
                    }
                    for name in VIEWS
                ],
            }
            for picture in pictures
        ]
        if shown:
            groups.append({"centre": centre, "n": int((judged["centre"] == centre).sum()), "pictures": shown})
    return groups


def volumes(study: Study) -> list[dict[str, Any]]:
    """The viewer's style, a group a held-out centre; empty without stored volumes."""
    stored, groups = read_volumes(study.path / "volumes"), []
    centre_of = dict(zip(study.cohort["case"], study.cohort["centre"], strict=True))
    for centre in study.held_out:
        shown = [item for item in stored if centre_of.get(item.case) == centre]
        if shown:
            groups.append({"centre": centre, "n": len(shown), "figures": volume_figures(shown)})
    return groups
