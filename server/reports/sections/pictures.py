"""Pictures of single cases on a page: the best, the median and the worst, drawn from what the run stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from server.reports.figures import style
from server.reports.metric_text import fixed
from server.reports.sections.external_data import ExternalData
from server.run_folder.pictures import PLANES, VIEWS, Picture, read_pictures
from shared.tasks.task import Task

_FULL = {"projection": "maximum intensity projection"}
_BACKGROUNDS = {"uptake": "First post-contrast minus pre-contrast signal", "pre-contrast": "Pre-contrast signal"}


def pictures(data: ExternalData) -> dict[str, Any] | None:
    """The stored cases, drawn; None when none were stored."""
    task, drawn = data.task, data.task.pictures
    stored = read_pictures(data.run.path, task.name) if drawn else []
    if drawn is None or not stored:
        return None
    # Before contrast a maximum shows fat alone.
    views = VIEWS if drawn.background == "uptake" else PLANES
    structures = " and of ".join(structure.title.lower() for structure in task.structures)
    nested = (
        f" Outlines from the outside in: {structures.replace(' and of ', ', ')}." if len(task.structures) > 1 else ""
    )
    projection = "; the projection is the maximum through this square along the body's axis" if views is VIEWS else ""
    return {
        "pictures": case_panels(
            stored,
            task,
            data.own_cases,
            outlines=f"reference and predicted outline of {structures}",
            views=views,
            remark=", phantom" if data.run.phantom else "",
        ),
        "note": f"{_BACKGROUNDS[drawn.background]}, {drawn.field_mm:g} mm around the reference, planes through its "
        f"largest axial section{projection}.{nested} Letters: right, left, anterior, posterior, superior, inferior of "
        "the patient.",
    }


def case_panels(
    stored: Sequence[Picture],
    task: Task,
    cases: pd.DataFrame,
    *,
    outlines: str,
    views: Sequence[str] = VIEWS,
    centre: str = "",
    remark: str = "",
) -> list[dict[str, Any]]:
    """Stored cases with the figure that chose them and one panel per view.

    `cases` is one model's per-case table; `outlines` says what is outlined, `centre` where among several; `remark` ends
    each panel's caption.
    """
    how = task.pictures
    if how is None:
        return []
    figures = cases.set_index("case")[how.by]
    title = next((metric.title for metric in task.metrics if metric.columns == (how.by,)), how.by)
    names = {view: _FULL.get(view, view) for view in views}
    where, prefix = (f"{centre}, ", f"{task.name}-{centre}") if centre else ("", task.name)
    return [
        {
            "title": f"{picture.label.capitalize()}: {title} {fixed(figures.get(picture.case), 3)}",
            "case": picture.case,
            "views": [
                {
                    "svg": style.view_panel(
                        picture.views[view],
                        view,
                        f"{prefix}-{picture.label}-{view}",
                        f"{where}{picture.label} case, {name}: {outlines}",
                        field_mm=how.field_mm,
                    ),
                    "caption": f"{name}{remark}",
                }
                for view, name in names.items()
            ],
        }
        for picture in stored
    ]
