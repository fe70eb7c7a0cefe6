"""The templates and data files of all pages, and the filters by which templates write figures."""

from __future__ import annotations

from pathlib import Path

import jinja2

from server.reports import metric_text
from shared.runtime.project import project_root

_FOLDERS = (".", "sections", "figures", "study", "site_check")
_FILTERS = ("label", "unit", "value", "interval", "fixed", "counted", "pairs", "duration", "within")


def environment() -> jinja2.Environment:
    """Templates by file name; of these HTML alone is escaped."""
    templates = jinja2.Environment(
        loader=_loader(),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {name: getattr(metric_text, name) for name in _FILTERS}
    return templates


def source(name: str) -> str:
    """Text of a file among the templates, as it stands there."""
    return _loader().get_source(jinja2.Environment(autoescape=True), name)[0]


def _loader() -> jinja2.FileSystemLoader:
    # Flower ships an app's Python files alone: a server started by it finds the others in the checkout.
    homes = (Path(__file__).parent, project_root() / "server" / "reports")
    return jinja2.FileSystemLoader([home / name for home in homes for name in _FOLDERS])
