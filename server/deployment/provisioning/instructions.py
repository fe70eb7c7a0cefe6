"""What people are handed beside keys: instructions, compose files, settings; their templates lie here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import jinja2

from server.deployment.provisioning.consortium_file import Consortium

CLIENT_IMAGE, GPU_IMAGE, SERVER_IMAGE = "fedbreast-client:0.1.0", "fedbreast-client-gpu:0.1.0", "fedbreast-server:0.1.0"


def rendered(template: str, consortium: Consortium, until: datetime, facts: Mapping[str, str]) -> bytes:
    """Fill a template.

    Parameters
    ----------
    template
        Its file's name.
    consortium
        Whose kit it is for.
    until
        When the kit's certificate ends.
    facts
        What else the template names, such as `site`.

    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # Plain text and YAML; every value was checked when the consortium's file was read.
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {"client_image": CLIENT_IMAGE, "gpu_image": GPU_IMAGE, "server_image": SERVER_IMAGE}
    values = {"consortium": consortium, "server": consortium.server, "until": f"{until:%Y-%m-%d}", **images, **facts}
    return environment.get_template(template).render(values).encode()
