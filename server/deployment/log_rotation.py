"""Logs of the server's processes kept short: a full disk would end every run."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LARGEST_LOG = 8 * 2**20
"""Bytes; twice that with the old part."""


def cut_if_long(path: Path) -> None:
    """Empty a log that has grown too long, after keeping what it said as `NAME.1`; its writers append and go on.

    Copied and emptied instead of renamed, as the file stays open: nginx's workers may be a user who cannot open
    another one in the kit's state, and Flower's SuperLink never looks again. A line written in between is lost.
    """
    with suppress(OSError):  # not there yet
        if path.stat().st_size <= LARGEST_LOG:
            return
        with suppress(OSError):  # a full disk: room is worth more than the old part
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
