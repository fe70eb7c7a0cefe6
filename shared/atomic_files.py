"""Files that are whole or as they were: written aside, then renamed into place. A full disk is told in one sentence."""

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


def replace_file(path: Path, content: bytes, place: str, *, durable: bool = False) -> None:
    """Write a file atomically: a reader sees the old or the new content, never half of it.

    Parameters
    ----------
    path, content
        The file and its bytes; folders are made.
    place
        As in `writing`.
    durable
        Whether it must outlast a loss of power.

    Raises
    ------
    RunError
        It cannot be written; the old file is as it was, and nothing is left of the new one.

    """
    with writing(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                stream.write(content)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def remove_drafts(folder: Path) -> None:
    """Remove what `replace_file` left below a folder when it was killed; nobody else may be writing there."""
    for path in list(folder.rglob(".*")):
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Tell a write that fails in this context as an error of ours.

    Parameters
    ----------
    place
        Where it is written to, as the message names it. At a site it is no path: the message goes to the server.

    Raises
    ------
    RunError
        There is no space left, or the place cannot be written to.

    """
    try:
        yield
    except OSError as error:
        # NumPy tells a short write without a number.
        if error.errno is None or is_full(error):
            raise RunError(f"no space left below {place}: free some and resume") from error
        raise RunError(f"cannot write below {place} ({error.strerror}): mend that and resume") from error


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, a quota or a file is at its limit."""
    return error.errno in _FULL
