"""Cache of every modality: entries that are made once and named by the content that they are made from.

An entry is used again after its images are moved or renamed, and made anew if an image, mask, side or setting changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from shared.cohort.preflight import Case
from shared.preprocessing.store import entry_lock, read_entry, write_entry

Entry = tuple[Mapping[str, npt.NDArray[Any]], Mapping[str, Any]]
"""Content of an entry: arrays by name, and facts as plain values."""


def get_or_make(root: Path, folder: Path, make: Callable[[], Entry]) -> dict[str, Any]:
    """Return the facts of an entry of the cache at `root`; a missing or damaged entry is made first.

    It is safe with several processes and threads: one makes the entry, the others wait. Facts are always read from
    JSON, so that the first and later runs get the same values.

    Raises
    ------
    RunError
        There is no space left for it.

    """
    with entry_lock(root, folder):
        facts = read_entry(folder)
        if facts is None:
            write_entry(folder, *make())
            facts = read_entry(folder)
    assert facts is not None  # noqa: S101 - just written under the lock
    return facts


def entry_name(*parts: str) -> str:
    """Name of an entry, a hash of everything that it depends on."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def content_digest(case: Case, images: Sequence[Path]) -> str:
    """SHA-256 of everything that a case is read from: bytes of its files, side, times and segment in its row.

    Names of DICOM files do not matter, as tags determine their order; NIfTI files are ordered by their names.

    Parameters
    ----------
    case
        The case.
    images
        Files of its images, sorted.

    """
    mask = case.mask_path()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images if path != mask]
    if not any(path.name.endswith((".nii", ".nii.gz")) for path in images if path != mask):
        digests.sort()
    drawn = hashlib.sha256(mask.read_bytes()).hexdigest() if mask is not None and mask.is_file() else "none"
    segment = case.row.mask.rpartition("#")[2] if "#" in case.row.mask else ""
    parts = [case.row.side, str(case.row.acquisition_times_s), drawn, segment, *digests]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
