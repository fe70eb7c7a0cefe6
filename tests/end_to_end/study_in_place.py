"""A whole study in this process: cells in processes of their own would not have a test's lines in the tables."""

from concurrent.futures import Future
from contextlib import contextmanager

from server.reports.figures import vector_files
from server.studies import runner
from server.studies.run_study import run_study


@contextmanager
def _here(root, _jobs):
    def submit(cell):
        future = Future()
        future.set_result(runner.work(root, cell))
        return future

    yield submit


def study_in_place(out, config, monkeypatch):
    """Run a configuration's study in `out`: its cells, tables, page and model card."""
    monkeypatch.setattr(runner, "_here", _here)
    monkeypatch.setattr(vector_files, "keep", lambda *_: None)  # their fonts take most of a report's time here
    run_study(config, out, jobs=1, on_progress=lambda *_: None, on_moment=lambda _: None)
