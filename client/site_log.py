"""The site's own log, in a file that stays with the site.

What a simulated node prints is copied into the server's log, so nothing is printed while a message is answered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from shared.atomic_files import writing
from shared.runtime.logs import log_to
from shared.runtime.project import cache_root


@contextmanager
def own_log(site: str) -> Iterator[logging.Logger]:
    """Write the site's log records to `logs/<site>.jsonl` below its cache, and nowhere else, while the context lasts.

    The site's name is empty while a node is asked which sites it holds.
    """
    name = site if re.fullmatch("[a-z0-9-]{1,32}", site) else "node"
    path = cache_root() / "logs" / f"{name}.jsonl"
    with writing("the site's cache"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with log_to(path, ("client", "shared"), alone=True):
        yield logging.getLogger(f"client.{name}")
