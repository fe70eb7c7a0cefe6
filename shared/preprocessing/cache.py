"""Cache of every modality: entries that are made once and named by the content that they are made from.

An entry is used again after its images are moved or renamed, and made anew if an image, mask, side or setting changed.
It is a folder of arrays that is complete or absent: written under another name, with checksums, then renamed.
Uncompressed `.npy` files can be mapped into memory: a random patch is read at the speed of the disk, and processes
share the pages (compressed formats took 4 to 250 times as long).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from shared.atomic_files import writing
from shared.cohort.preflight import Case
from shared.types import BoolArray

CACHE = "the site's cache"
"""Name of the cache in messages, which go to the server and must not contain its path."""
_FACTS = "meta.json"
_CHUNK = 1 << 22

Entry = tuple[Mapping[str, npt.NDArray[Any]], Mapping[str, Any]]
"""Content of an entry: arrays by name, and facts as plain values."""


def get_or_make(root: Path, folder: Path, make: Callable[[], Entry]) -> dict[str, Any]:
    """Return the facts of an entry of the cache at `root`; a missing or damaged entry is made first.

    It is safe with several processes and threads: one makes the entry, the others wait. Facts are always read from
    JSON, so that the first and later runs get the same values. Raises `RunError` if there is no space left.
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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, of which few are in memory at a time."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_digest(case: Case, images: Sequence[Path]) -> str:
    """SHA-256 of all that a case is read from: bytes of its sorted image files, side, times and segment in its row.

    Names of DICOM files do not matter, as tags determine their order; NIfTI files are ordered by their names.
    """
    masks = case.mask_files()
    taken = [path for path in images if path not in masks]
    digests = [file_digest(path) for path in taken]
    if not any(path.name.endswith((".nii", ".nii.gz")) for path in taken):
        digests.sort()
    drawn = ", ".join(f"{'/'.join(path.parts[-2:]) * (len(masks) > 1)}{file_digest(path)}" for path in masks) or "none"
    segment = case.row.mask.rpartition("#")[2] if "#" in case.row.mask else ""
    parts = [case.row.side, str(case.row.acquisition_times_s), drawn, segment, *digests]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


@contextmanager
def entry_lock(root: Path, folder: Path) -> Iterator[None]:
    """Hold the lock of an entry of the cache at `root`; the system releases it if the process dies.

    Raises
    ------
    RunError
        There is no space left for the lock file.

    """
    lock = FileLock(root / "locks" / f"{folder.parent.name}-{folder.name}.lock")
    with writing(CACHE):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_entry(folder: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write arrays and facts as one folder and replace an older one; the caller holds the lock of the entry.

    A killed process leaves a `.making-` folder, which the next writer of the entry removes.

    Raises
    ------
    RunError
        There is no space left for it.

    """
    scratch = folder.with_name(f".making-{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with writing(CACHE):
            scratch.mkdir(parents=True)
            checksums = {}
            for name, array in arrays.items():
                np.save(scratch / f"{name}.npy", array, allow_pickle=False)
                checksums[name] = _checksum(scratch / f"{name}.npy")
            text = json.dumps({"facts": dict(facts), "checksums": checksums}, indent=1)
            (scratch / _FACTS).write_text(text, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            scratch.replace(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def read_entry(folder: Path) -> dict[str, Any] | None:
    """Facts of an entry; None if it is missing or damaged."""
    try:
        text = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        whole = all(_checksum(folder / f"{name}.npy") == value for name, value in text["checksums"].items())
        facts: dict[str, Any] = text["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole else None


def _checksum(path: Path) -> int:
    """CRC-32 of a file, which detects damage but no manipulation."""
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def open_array(folder: Path, name: str) -> npt.NDArray[Any]:
    """Open one array of an entry as a read-only memory map."""
    array: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def pack_mask(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """Pack a mask to bits, eight per byte."""
    return np.packbits(mask)


def unpack_mask(bits: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> BoolArray:
    """Undo `pack_mask`."""
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(np.bool_)
