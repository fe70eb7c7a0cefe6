"""Real file systems for a test: soon full, not to be written to, or stalled. To mount them needs root."""

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


@contextmanager
def own_disk(path, image, size="200M"):
    """A file system of its own at `path`, in the file `image`, which `stalled` can stop."""
    subprocess.run(["truncate", "-s", size, str(image)], check=True)
    path.mkdir(parents=True, exist_ok=True)
    _call("mkfs.ext4", "-q", "-m", "0", image)
    _mount("-o", "loop", image, path)
    try:
        (path / "lost+found").rmdir()
        yield path
    finally:
        _unmount(path)


@contextmanager
def stalled(path):
    """Whoever writes to the disk at `path` waits for as long as the context lasts, a caller who writes too."""
    _call("fsfreeze", "--freeze", path)
    try:
        yield
    finally:
        _call("fsfreeze", "--unfreeze", path)


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
    _call("mount", *arguments)


def _call(*command):
    try:
        subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {getattr(error, 'stderr', '') or error}".strip())


def _unmount(path):
    # Lazily: memory maps of a failed test must not keep it.
    subprocess.run(["umount", "--lazy", str(path)], check=True)
