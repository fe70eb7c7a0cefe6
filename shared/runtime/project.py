"""Finds the project's checkout, which relative paths in configurations refer to in every process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from shared.config.run_config import RunConfig, load_config, parse_config


def project_root() -> Path:
    """Root of the checkout: `FEDBREAST_ROOT`, else where the editable install points, else the working directory.

    Flower runs the app from a copy and in another working directory, so `__file__` does not lead to the checkout.
    """
    root = os.environ.get("FEDBREAST_ROOT")
    if root:
        return Path(root)
    try:
        origin = metadata.distribution("fedbreast").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        origin = None
    url = urlparse(json.loads(origin)["url"]) if origin else None
    if url is not None and url.scheme == "file" and Path(unquote(url.path)).is_dir():
        return Path(unquote(url.path))
    return Path.cwd()


def cache_root() -> Path:
    """Folder of prepared cases: `FEDBREAST_CACHE`, else `.cache` in the checkout. Never inside a site's folder."""
    cache = os.environ.get("FEDBREAST_CACHE")
    return Path(cache) if cache else project_root() / ".cache"


def load_run_config(run_config: Mapping[str, object]) -> RunConfig:
    """The configuration that a Flower run names, with the seed, rounds and held-out centre that the run sets."""
    config = load_config(project_root() / str(run_config["config"]))
    raw = config.model_dump(mode="json", exclude_none=True)
    if int(str(run_config.get("seed", -1))) >= 0:
        raw["seed"] = int(str(run_config["seed"]))
    if int(str(run_config.get("rounds", -1))) > 0:
        raw["federation"]["rounds"] = int(str(run_config["rounds"]))
    config = parse_config(raw, str(run_config["config"]))
    held_out = str(run_config.get("held-out", ""))
    return config.leaving_out(held_out) if held_out else config
