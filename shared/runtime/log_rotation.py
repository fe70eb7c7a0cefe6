"""Short logs of the server's processes: a full disk would end every run."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LARGEST_LOG = 8 * 2**20
"""Bytes; twice that with the older part."""


def cut_if_long(path: Path) -> None:
    """Copy a log that has grown too long to `NAME.1` and empty it; its writers append and go on.

    It is not renamed, because its writers keep it open: nginx's workers may be a user who cannot open another file in
    the kit's state, and Flower's SuperLink never opens it again. A line written between copy and cut is lost.
    """
    with suppress(OSError):  # not there yet
        if path.stat().st_size <= LARGEST_LOG:
            return
        with suppress(OSError):  # on a full disk space matters more than the older part
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
