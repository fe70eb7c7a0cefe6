"""The site's own log: everything that happened here, traces too, in a file that stays with the site.

What a simulated node prints is copied into the server's log, so while a message is at work nothing is printed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from shared.project import cache_root

ROOMS = ("client", "shared")
"""Loggers of the code that runs at a site."""


@contextmanager
def own_log(site: str) -> Iterator[logging.Logger]:
    """Send the site's log records to `logs/<site>.log` below its cache, and nowhere else, while the context lasts.

    Parameters
    ----------
    site
        Name of the site; empty while a node is asked which sites it holds.

    """
    name = site if re.fullmatch("[a-z0-9-]{1,32}", site) else "node"
    path = cache_root() / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(room) for room in ROOMS]
    before = [(item.handlers, item.propagate, item.level) for item in loggers]
    for item in loggers:
        item.handlers, item.propagate = [handler], False
        item.setLevel(logging.INFO)
    try:
        yield logging.getLogger(f"client.{name}")
    finally:
        for item, (handlers, propagate, level) in zip(loggers, before, strict=True):
            item.handlers, item.propagate = handlers, propagate
            item.setLevel(level)
        handler.close()
