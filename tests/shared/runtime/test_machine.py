"""What the machine has to spare, against the operating system's own words."""

import os

import pytest

from shared.runtime import machine
from shared.runtime.machine import free_disk_mb, free_memory_mb


def test_free_space_is_that_of_the_disk_also_where_the_folder_is_still_to_be_made(tmp_path):
    stat = os.statvfs(tmp_path)
    expected = stat.f_bavail * stat.f_frsize / 1e6
    for folder in (tmp_path, tmp_path / "not" / "yet"):
        assert free_disk_mb(folder) == pytest.approx(expected, abs=500, rel=0.1)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The kernel's files, as a test writes them."""
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:  9000000 kB\nMemAvailable:  2000000 kB\n")
    return tmp_path


def test_without_a_limit_what_the_kernel_calls_available_is_free(files):
    assert free_memory_mb() == 2048
    (files / "memory.max").write_text("max\n")
    assert free_memory_mb() == 2048


def test_a_container_has_no_more_than_its_limit_leaves_and_cached_files_give_way(files):
    (files / "memory.max").write_text("1000000000\n")
    (files / "memory.current").write_text("900000000\n")
    (files / "memory.stat").write_text("anon 200000000\nfile 650000000\nfile_mapped 7\n")
    assert free_memory_mb() == 750
    (files / "memory.max").write_text("100\n")
    assert free_memory_mb() == 1  # next to nothing is not unknown


def test_where_the_kernel_tells_nothing_nothing_is_known(files):
    (files / "meminfo").unlink()
    assert free_memory_mb() == 0
