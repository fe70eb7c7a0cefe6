"""A run's progress through its file, and the place of a site's own."""

import time

import pytest

from shared.runtime.progress import Progress, read_progress, site_progress_path, write_progress


def test_progress_survives_the_way_to_the_file_and_back(tmp_path):
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    before = time.time()
    write_progress(path, "train", 3, 10, "round 4: training")
    moment = read_progress(path)
    assert moment == Progress("train", 3, 10, "round 4: training", moment.at)
    assert before <= moment.at <= time.time()
    assert [item.name for item in tmp_path.iterdir()] == ["progress.json"]
    for broken in ("", "[1]", '{"phase": "train"}'):
        path.write_text(broken)
        assert read_progress(path) is None


def test_a_disk_that_takes_nothing_leaves_the_last_progress(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    write_progress(path, "train", 1, 2, "")
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    write_progress(path, "train", 2, 2, "")
    assert read_progress(path).done == 1


@pytest.mark.parametrize("run", ["../../etc/passwd", "/absolute", "a|b"])
def test_a_servers_name_of_a_run_leads_to_no_other_place(tmp_path, run):
    path = site_progress_path(tmp_path, run, "centre-a")
    assert path.parent == tmp_path / "progress"
    assert path != site_progress_path(tmp_path, run, "centre-b")
