"""Worker processes: every call is run once, and a failure comes out."""

import os

import pytest

from shared.phantom.generate import open_pool, run_all


def leave_a_file(folder, name):
    (folder / name).write_text(str(os.getpid()))


def fail(_folder, _name):
    raise RuntimeError("no space")


def test_a_single_worker_runs_every_call_here_and_in_order(tmp_path):
    with open_pool(1) as pool:
        assert pool is None
        done = sum(1 for _ in run_all(pool, leave_a_file, [(tmp_path, name) for name in "abc"]))
    assert done == 3
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_a_failure_ends_the_calls(tmp_path):
    with open_pool(1) as pool, pytest.raises(RuntimeError, match="no space"):
        list(run_all(pool, fail, [(tmp_path, "a")]))


@pytest.mark.slow
def test_several_workers_run_every_call_once_in_other_processes(tmp_path):
    with open_pool(2) as pool:
        assert sum(1 for _ in run_all(pool, os.mkdir, [(str(tmp_path / name),) for name in "abcd"])) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
