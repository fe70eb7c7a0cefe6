"""Which centres' data are phantoms and which are patients': by what they tell, never by what a configuration hopes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shared.cohort.site_folder import open_site_folder
from shared.config.run_config import RunConfig
from shared.runtime.project import project_root

REGISTERED = "registered.json"
"""File of a run's folder with what each site told of itself when it joined."""


def of_phantoms(config: RunConfig, phantoms: Mapping[str, bool]) -> tuple[bool, tuple[str, ...]]:
    """Whether any site's data are phantoms, and which where not all are; `phantoms` is what sites tell, not a guess.

    Where none tells anything, the data are phantoms if the configuration makes them.
    """
    if not phantoms:
        return config.data.phantom is not None, ()
    which = tuple(name for name in config.centres if phantoms.get(name))
    return bool(which), which if len(which) < len(phantoms) else ()


def folders_of_phantoms(config: RunConfig) -> dict[str, bool]:
    """Of every centre whether its folder on this machine holds phantoms, as a study reads them."""
    root: Path = project_root() / config.data.root
    return {name: open_site_folder(root / name).phantom for name in config.centres}
