"""Folders of arrays on disk that are complete or absent: written under another name, with checksums, then renamed.

Uncompressed `.npy` files can be mapped into memory: a random patch is read at the speed of the disk, and processes
share the pages (compressed formats took 4 to 250 times as long).
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from shared.atomic_files import writing
from shared.types import BoolArray

FACTS = "meta.json"
CACHE = "the site's cache"
"""Name of the cache in messages, which go to the server and must not contain its path."""
_CHUNK = 1 << 22


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
            (scratch / FACTS).write_text(text, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            scratch.replace(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


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


def read_entry(folder: Path) -> dict[str, Any] | None:
    """Facts of an entry; None if it is missing or damaged."""
    try:
        text = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        whole = all(_checksum(folder / f"{name}.npy") == value for name, value in text["checksums"].items())
        facts: dict[str, Any] = text["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole else None


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


def _checksum(path: Path) -> int:
    """CRC-32 of a file, which detects damage but no manipulation."""
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
