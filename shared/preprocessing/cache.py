"""What every modality keeps of its cases: entries that are made once, named by the content they are made from.

A renamed folder hits; a changed image, mask, side or setting misses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from shared.cohort.preflight import Case
from shared.preprocessing.store import locked, read_entry, write_entry

Made = tuple[Mapping[str, npt.NDArray[Any]], Mapping[str, Any]]
"""Arrays by name, and plain facts."""


def get_or_make(root: Path, folder: Path, make: Callable[[], Made]) -> dict[str, Any]:
    """Facts of an entry of the cache at `root`, which is made where it is absent or damaged.

    Safe with several processes and threads: one makes it, the others wait. The facts come back through JSON, so that a
    first and a second run go the same way.

    Raises
    ------
    RunError
        There is no space left for it.

    """
    with locked(root, folder):
        facts = read_entry(folder)
        if facts is None:
            write_entry(folder, *make())
            facts = read_entry(folder)
    assert facts is not None  # noqa: S101 - written under the lock just now
    return facts


def entry_name(*parts: str) -> str:
    """Name of an entry, from all that it depends on."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def content_digest(case: Case, images: Sequence[Path]) -> str:
    """SHA-256 of all that a case is read from: its files' bytes, its side, what its row says of times and segment.

    Names and places of DICOM files do not count, as their order is told by their tags; NIfTI files are told apart by
    their names' order.

    Parameters
    ----------
    case
        The case.
    images
        The files of its images, sorted.

    """
    mask = case.mask_path()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images if path != mask]
    if not any(path.name.endswith((".nii", ".nii.gz")) for path in images if path != mask):
        digests.sort()
    drawn = hashlib.sha256(mask.read_bytes()).hexdigest() if mask is not None and mask.is_file() else "none"
    segment = case.row.mask.rpartition("#")[2] if "#" in case.row.mask else ""
    parts = [case.row.side, str(case.row.acquisition_times_s), drawn, segment, *digests]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
