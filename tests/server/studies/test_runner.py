"""The runner: cells in their order, what fails is named and the rest is kept, no text of a library gets out."""

from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from server.studies import cells, runner
from server.studies.design import Cell, Design, last_file
from shared.config.run_config import parse_config
from shared.errors import RunError

CONFIG = parse_config(
    {
        "name": "t",
        "data": {"root": "d", "sites": ["a", "b"], "external": "x"},
        "study": {"held_out": ["x"], "arms": ["local", "federated"]},
    },
    "t",
)


@pytest.fixture
def done_at_once(monkeypatch):
    """Cells that are done as soon as they start, in this process; those in `broken` fail."""
    started, broken = [], {}

    @contextmanager
    def here(root, _):
        def submit(cell):
            started.append(cell)
            future = Future()
            if not (error := broken.get(cell, "")):
                last_file(root, cell).parent.mkdir(parents=True, exist_ok=True)
                last_file(root, cell).touch()
            future.set_result(error)
            return future

        yield submit

    monkeypatch.setattr(runner, "_here", here)
    monkeypatch.setattr(runner, "_open_fold", lambda _, __, centre: started.append(f"{centre} is opened"))
    return started, broken


def test_a_cell_starts_after_those_it_waits_for_and_a_centre_is_opened_after_all_training(done_at_once, tmp_path):
    started, _ = done_at_once
    moments = []
    runner.run_cells(Design(CONFIG), tmp_path, jobs=3, on_moment=moments.append)
    waits = Design(CONFIG).cells()
    cells_alone = [cell for cell in started if isinstance(cell, Cell)]
    assert sorted(cells_alone) == sorted(waits)
    assert all(cells_alone.index(needed) < cells_alone.index(cell) for cell in waits for needed in waits[cell])
    opened = started.index("x is opened")
    assert all(cell in started[:opened] for cell in waits if cell.kind == "train")
    assert started[opened + 1].kind == "evaluate"
    assert (len(moments[-1].done), moments[-1].total) == (len(waits), len(waits))


def test_finished_cells_are_not_run_again(done_at_once, tmp_path):
    started, _ = done_at_once
    runner.run_cells(Design(CONFIG), tmp_path, jobs=1, on_moment=lambda _: None)
    started.clear()
    runner.run_cells(Design(CONFIG), tmp_path, jobs=1, on_moment=lambda _: None)
    assert started == []


def test_a_failed_cell_is_named_and_what_does_not_wait_for_it_is_done(done_at_once, tmp_path):
    started, broken = done_at_once
    bad = Cell("train", "x", "lesion-segmentation", "local:a", 0)
    broken[bad] = "no space is left"
    with pytest.raises(RunError, match=r"1 cells failed and 1 wait for them \(x train .* no space is left\)"):
        runner.run_cells(Design(CONFIG), tmp_path, jobs=2, on_moment=lambda _: None)
    assert not any(cell == "x is opened" for cell in started)
    assert last_file(tmp_path, Cell("train", "x", "lesion-segmentation", "federated", 0)).exists()


def test_what_a_library_says_stays_in_the_cells_own_log(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("patient 4711 in /home/secret")

    monkeypatch.setattr(cells, "run_cell", fail)
    cell = Cell("extract", "a")
    error = runner.work(tmp_path, cell)
    assert error.startswith("ValueError at test_runner.py, line ")
    assert "4711" not in error
    assert list((tmp_path / "progress").iterdir()) == []

    def refuse(*_):
        raise RunError("mend it")

    monkeypatch.setattr(cells, "run_cell", refuse)
    assert runner.work(tmp_path, cell) == "mend it"


def test_h12_what_a_cell_writes_is_its_users_alone_in_a_ray_clusters_worker_too(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "run_cell", lambda root, *_: (root / "picture").touch())
    runner.work(tmp_path, Cell("extract", "a"))
    assert [path.name for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077] == []
    assert (tmp_path / "picture").exists()


def test_as_many_cells_run_as_the_cores_hold(monkeypatch):
    monkeypatch.setattr(runner, "_visible_gpus", list)
    monkeypatch.setattr(runner.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [runner.jobs_here(threads) for threads in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setattr(runner, "_visible_gpus", lambda: ["0", "1"])
    assert runner.jobs_here(1) == 2
