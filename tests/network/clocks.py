"""Wrong clocks of real processes: each may be put forward or back while they run."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("wrong_clock.c")


class Clock:
    """A wall clock, right at first. Whoever is started with `variables` sees it."""

    def __init__(self, path, library):
        self.path = path
        path.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(path)}

    def put(self, seconds):
        """Make it wrong by so many seconds from now on."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("q", seconds))


def can_be_wrong():
    """Whether this machine has what it takes."""
    return Path("/proc/self/stat").exists() and shutil.which("cc") is not None


def build(folder):
    """The library that a `Clock` needs."""
    if not can_be_wrong():
        pytest.skip("wrong clocks need Linux and a C compiler")
    library = folder / "wrong_clock.so"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library
