"""Real file systems for a test: one that is soon full, and one that cannot be written to. To mount them needs root."""

import subprocess
from contextlib import contextmanager, suppress

import pytest


@contextmanager
def small_disk(path, size="1m"):
    """A file system of its own at `path`, empty, of that size."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    try:
        yield path
    finally:
        _unmount(path)


def enlarge(path, size):
    """Give a small disk more space."""
    _mount("-o", f"remount,size={size}", path)


def fill(path, but=0):
    """Write a file that takes all the space of a disk but so many bytes; return it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    with filler.open("r+b") as stream:
        stream.truncate(max(0, filler.stat().st_size - but))
    return filler


@contextmanager
def read_only(source, path):
    """A folder as it is mounted into a container: the same files at `path`, which nobody can write to."""
    path.mkdir(parents=True)
    _mount("--bind", source, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        yield path
    finally:
        _unmount(path)


def _mount(*arguments):
    try:
        subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {getattr(error, 'stderr', '') or error}".strip())


def _unmount(path):
    # Lazily: memory maps of a failed test must not keep it.
    subprocess.run(["umount", "--lazy", str(path)], check=True)
