"""What this machine has to spare, disk and memory: told when a site registers, and looked at before a run begins."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def free_disk_mb(folder: Path) -> int:
    """Free space where a folder lies or will lie, 10^6 bytes; 0 where it cannot be told."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        return shutil.disk_usage(there).free // 10**6 if there else 0
    except OSError:
        return 0


def free_memory_mb() -> int:
    """Memory that a new program may take without swapping, 10^6 bytes; 0 where it cannot be told.

    What Linux calls available, and of a container (cgroup v2) no more than its limit leaves: cached files give way.
    """
    try:
        free = _number(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO) * 1024
    except (OSError, ValueError):
        return 0
    try:
        most = _number(r"(\d+)", _CGROUP / "memory.max")  # "max" without a limit
        used = _number(r"(\d+)", _CGROUP / "memory.current") - _number(r"^file (\d+)$", _CGROUP / "memory.stat")
        free = min(free, most - used)
    except (OSError, ValueError):
        pass
    return max(free // 10**6, 1)


def _number(pattern: str, file: Path) -> int:
    """The one number in a file; `ValueError` where there is none."""
    (number,) = re.findall(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    return int(number)
