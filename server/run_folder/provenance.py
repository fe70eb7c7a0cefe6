"""What made the results of a run or a study: code, versions, seeds, and whether the data are phantoms."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

from server.run_folder.phantoms import of_phantoms
from server.run_folder.results import Provenance, TrainedTask
from shared.config.run_config import RunConfig
from shared.runtime.project import project_root

REPORTED = ("flwr", "torch", "monai", "numpy", "SimpleITK", "pydicom", "highdicom", "fedbreast")


def provenance(
    config: RunConfig,
    name: str,
    tasks: dict[str, TrainedTask],
    seconds: float,
    missing: tuple[str, ...],
    phantoms: Mapping[str, bool],
    unfinished: Mapping[str, str],
) -> Provenance:
    """Of a run of this name that ends now, after so many seconds; `phantoms` says of each site what its data are."""
    phantom, phantom_sites = of_phantoms(config, phantoms)
    return Provenance(
        name=name,
        created=datetime.now(UTC),
        git=git_commit(),
        versions=package_versions(),
        seeds={"training": config.seed}
        | ({"phantom": config.data.phantom.seed} if config.data.phantom and phantom else {}),
        tasks=tasks,
        seconds=seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        phantom=phantom,
        phantom_sites=phantom_sites,
        outcome="failed" if unfinished else "partial" if missing else "complete",
        missing=missing,
        unfinished=dict(unfinished),
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    return {name: metadata.version(name) for name in REPORTED}


def git_commit() -> str:
    """Commit of the checkout, `-dirty` where tracked files were changed; empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607 - the user's git
            cwd=project_root(),
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
