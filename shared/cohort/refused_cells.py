"""The cells that a table is refused for: in a file on the site's own disk, readable by its owner, that is never sent.

A message names row and column alone, because in a row that is shifted by one any column may hold a patient's name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.atomic_files import write_atomically
from shared.errors import TableError
from shared.words import plain

_BREAK = "\n  "


@contextmanager
def keeping_the_cell(folder: Path) -> Iterator[None]:
    """While a site folder's table is read, write the cells of a `TableError` into a file, which its message then names.

    The file lies in the cache's `logs`, mode 0600; its name is a hash of the folder's path.
    """
    try:
        yield
    except TableError as error:
        path = keeping_the_cells(folder, error.faults or (error,))
        if path is None:
            raise  # what is wrong with the table matters more
        joint = _BREAK if error.faults else "; "
        message = f"{error.message}{joint}what stands there is in {path}, which never leaves this machine"
        raise TableError(
            message, file=error.file, row=error.row, column=error.column, cell=error.cell, faults=error.faults
        ) from None
    else:
        with suppress(OSError):
            _file(folder).unlink()


def keeping_the_cells(folder: Path, faults: Sequence[TableError]) -> Path | None:
    """Write the cells of all these faults into the file; None where they have none, or it cannot be written."""
    lines = [f"{fault.where}: {plain(fault.cell)}\n" for fault in faults if fault.cell]
    if not lines:
        return None
    path = _file(folder)
    try:
        write_atomically(path, "".join(lines).encode(), mode=0o600)
    except OSError:
        return None
    return path


def _file(folder: Path) -> Path:
    from shared.runtime.project import cache_root  # it needs the tasks, and these the cohort

    return cache_root() / "logs" / f"refused-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.txt"
