"""Logs stay short while their writers go on."""

import pytest

from shared.runtime import log_rotation
from shared.runtime.log_rotation import cut_if_long


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(log_rotation, "LARGEST_LOG", 1000)


def test_a_long_log_begins_anew_and_one_old_part_is_kept(tmp_path, short):
    path = tmp_path / "some.log"
    with path.open("ab", buffering=0) as writer:
        for turn in range(3):
            writer.write(b"%d" % turn * 1000)
            cut_if_long(path)
            assert path.stat().st_size == 1000  # not too long yet
            writer.write(b".")
            cut_if_long(path)
            assert path.read_bytes() == b""
            assert (tmp_path / "some.log.1").read_bytes() == b"%d" % turn * 1000 + b"."
    assert len(list(tmp_path.iterdir())) == 2


def test_on_a_full_disk_room_is_made_all_the_same(tmp_path, short, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log_rotation.shutil, "copyfile", full)
    (tmp_path / "some.log").write_bytes(bytes(2000))
    cut_if_long(tmp_path / "some.log")
    assert (tmp_path / "some.log").read_bytes() == b""


def test_a_log_that_is_not_there_yet_is_no_error(tmp_path):
    cut_if_long(tmp_path / "some.log")
    assert not list(tmp_path.iterdir())
