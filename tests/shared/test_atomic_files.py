"""Files that are replaced as a whole: readers, permissions, killed writers and full disks."""

import errno
import os
import stat
import threading

import pytest

from shared.atomic_files import is_full, remove_drafts, replace_file, write_atomically, writing
from shared.errors import RunError


def test_a_reader_sees_the_old_or_the_new_content_and_never_half(tmp_path):
    path, contents = tmp_path / "file", [bytes([digit]) * 200_000 for digit in b"ab"]
    write_atomically(path, contents[0])
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        write_atomically(path, contents[number % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_private_file_is_its_owners_from_its_first_byte_on(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(os, "fsync", lambda number: modes.append(stat.S_IMODE(os.fstat(number).st_mode)))
    write_atomically(tmp_path / "deep" / "key", b"secret", mode=0o600, durable=True)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "deep" / "key").stat().st_mode) == 0o600


def test_a_killed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_drafts_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in (".file.123", "deep/.other.9", ".hidden", "file.123", ".file.1a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", ".hidden", "file.123", ".file.1a"}


def test_a_place_that_cannot_be_written_to_is_an_error_that_names_the_place_alone(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write below runs/one \(.*\): mend that and resume$") as caught:
        replace_file(tmp_path / "file" / "below", b"x", "runs/one")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None])
def test_a_full_disk_is_said_in_one_sentence(number):
    with pytest.raises(RunError, match=r"^no space left below the cache: free some and resume$"), writing("the cache"):
        raise OSError(number, "words") if number else OSError("1 requested and 0 written")
    assert is_full(OSError(errno.ENOSPC, "")) is not is_full(OSError(errno.EACCES, ""))
