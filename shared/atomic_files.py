"""Files that are replaced as a whole, and a plain message when the disk is full."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import RunError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DRAFT = re.compile(r"\..+\.\d+")


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666, durable: bool = False) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it; missing folders are made.

    `mode` are its permissions from the first byte on, less the process's umask; `durable` files survive a loss of
    power. After an `OSError` the old file is unchanged, and nothing of the new one is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes, place: str, *, durable: bool = False) -> None:
    """Write a file as `write_atomically` does; a failure is a `RunError` that names `place`, as in `writing`."""
    with writing(place):
        write_atomically(path, content, durable=durable)


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that killed processes left below a folder; no other process may be writing there."""
    for path in list(folder.rglob(".*")):
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Turn a failed write in this context into a `RunError` for the user: no space is left, or it cannot be written.

    `place` names the folder in the message. At a site it is no path, because the message goes to the server.
    """
    try:
        yield
    except OSError as error:
        # NumPy reports an incomplete write without an error number.
        if error.errno is None or is_full(error):
            raise RunError(f"no space left below {place}: free some and resume") from error
        raise RunError(f"cannot write below {place} ({error.strerror}): mend that and resume") from error


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, a quota or a file has reached its limit."""
    return error.errno in _FULL
