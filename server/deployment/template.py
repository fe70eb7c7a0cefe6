"""Configuration files and instructions made from a template that lies beside the code."""

from __future__ import annotations

from pathlib import Path

import jinja2


def fill_template(template: Path, **values: object) -> str:
    """Fill a template of plain text, TOML or YAML, `NAME.j2`; the values must have been checked before."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(),  # by ending: not for these
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)
