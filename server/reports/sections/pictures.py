"""Pictures of single cases on a page: the best, the median and the worst, drawn from what the run stored."""

from __future__ import annotations

from typing import Any

from server.reports.figures import style
from server.reports.metric_text import fixed
from server.reports.sections.external_data import ExternalData
from server.run_folder.pictures import PLANES, VIEWS, read_pictures

_FULL = {"projection": "maximum intensity projection"}
_BACKGROUNDS = {"uptake": "First post-contrast minus pre-contrast signal", "pre-contrast": "Pre-contrast signal"}


def pictures(data: ExternalData) -> dict[str, Any] | None:
    """The stored cases, drawn; None when none were stored."""
    task, drawn = data.task, data.task.pictures
    stored = read_pictures(data.run.path, task.name) if drawn else []
    if drawn is None or not stored:
        return None
    figures = data.own_cases.set_index("case")[drawn.by]
    title = next((metric.title for metric in task.metrics if metric.columns == (drawn.by,)), drawn.by)
    # Before contrast a maximum shows fat alone.
    views = VIEWS if drawn.background == "uptake" else PLANES
    structures = " and of ".join(structure.title.lower() for structure in task.structures)
    nested = (
        f" Outlines from the outside in: {structures.replace(' and of ', ', ')}." if len(task.structures) > 1 else ""
    )
    projection = "; the projection is the maximum through this square along the body's axis" if views is VIEWS else ""
    return {
        "pictures": [
            {
                "title": f"{picture.label.capitalize()}: {title} {fixed(figures.get(picture.case), 3)}",
                "case": picture.case,
                "views": [
                    {
                        "svg": style.view_panel(
                            picture.views[name],
                            name,
                            f"{task.name}-{picture.label}-{name}",
                            f"{picture.label} case, {_FULL.get(name, name)}: reference and predicted outline of "
                            f"{structures}",
                            field_mm=drawn.field_mm,
                        ),
                        "caption": f"{_FULL.get(name, name)}{', phantom' if data.run.phantom else ''}",
                    }
                    for name in views
                ],
            }
            for picture in stored
        ],
        "note": f"{_BACKGROUNDS[drawn.background]}, {drawn.field_mm:g} mm around the reference, planes through its "
        f"largest axial section{projection}.{nested} Letters: right, left, anterior, posterior, superior, inferior of "
        "the patient.",
    }
