"""The texts in a kit: instructions, compose files and settings. Their templates lie beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from server.deployment.provisioning.consortium_file import Consortium
from server.deployment.template import fill_template

IMAGES = {
    "client_image": "fedbreast-client:0.1.0",
    "gpu_image": "fedbreast-client-gpu:0.1.0",
    "server_image": "fedbreast-server:0.1.0",
}


def kit_text(template: str, consortium: Consortium, until: datetime, facts: Mapping[str, str]) -> bytes:
    """Fill a kit's template.

    Parameters
    ----------
    template
        Name of its file.
    consortium
        The consortium's file.
    until
        When the kit's certificate ends.
    facts
        What else the template names, such as `site`.

    """
    values = {"consortium": consortium, "server": consortium.server, "until": f"{until:%Y-%m-%d}", **IMAGES, **facts}
    return fill_template(Path(__file__).with_name(template), **values).encode()
