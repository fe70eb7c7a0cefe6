"""What ends a run before it begins, and how long it took."""

import sys
import time
from types import SimpleNamespace

import pytest

from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.modalities.mri import radiomics


def test_a_package_that_a_later_task_needs_is_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(radiomics, "find_spec", lambda _name: None)
    config = parse_config(
        {
            "name": "tiny",
            "tasks": ["lesion-segmentation", "subtype-radiomics"],
            "data": {"root": "d", "sites": ["a"], "external": "x"},
        },
        "t",
    )
    folder = RunFolder.create(tmp_path / "one", config)
    # No grid: not even the sites are asked.
    with pytest.raises(ConfigError, match=r"pip install 'fedbreast\[radiomics\]'"):
        run(None, config, folder, lambda *_: None)
    assert not (folder.path / "journal").exists()


def test_the_time_of_a_resumed_run_is_that_of_all_its_sittings(tmp_path, monkeypatch):
    config = parse_config({"name": "tiny", "data": {"root": "d", "sites": ["a"]}}, "t")
    folder, began = RunFolder.create(tmp_path / "one", config), []
    monkeypatch.setattr(
        folder, "records", lambda task: [RoundRecord(task, 0, "", 0.0), RoundRecord(task, 1, "", 3600.0)]
    )
    federation = SimpleNamespace(
        train=lambda _: [],
        participants=SimpleNamespace(phantoms={}, states=SimpleNamespace(finish=lambda: None)),
    )
    running = sys.modules["server.run"]
    monkeypatch.setattr(running, "Federation", lambda *_: federation)
    monkeypatch.setattr(running, "_begin", lambda _: None)
    monkeypatch.setattr(running, "_figures", lambda *_: ([], {}))
    monkeypatch.setattr(running, "_conclude", lambda *given: began.append(given[4]) or [])
    run(None, config, folder, lambda *_: None)
    folder.release()
    assert 3600 <= time.perf_counter() - began[0] < 3660
