"""The run folder: commits, resumes, refusals."""

import json

import numpy as np
import pytest
import torch

from server.run_folder.format import check_format
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import parse_config
from shared.errors import ConfigError, RunError
from shared.metrics.sums import Moments, Sums
from shared.reproducibility import state_hash

CONFIG = parse_config({"name": "tiny", "data": {"root": "d", "sites": ["a"], "external": "x"}}, "t")
TASK = "lesion-segmentation"
STATE = {"w": torch.arange(4.0), "b": torch.ones(2, 2)}


def record(number, dice=None, status="accepted"):
    sums = Sums({"n": 1, "dice": Moments.of(dice)}).to_flat() if dice is not None else None
    return RoundRecord(TASK, number, state_hash(STATE), 1.0, {"a": SiteEntry(status, "", 5, 1.0, 0.3, sums)})


def test_a_commit_reads_back_as_it_was(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    kept = {"m": np.arange(3, dtype=np.float32), "v": np.ones(3, np.float32)}
    folder.commit(record(1, 0.5), STATE, kept)
    (found,) = folder.records(TASK)
    assert found == record(1, 0.5)
    assert all(torch.equal(folder.model(found)[name], value) for name, value in STATE.items())
    assert folder.strategy_state(found).keys() == kept.keys()
    assert all(np.array_equal(folder.strategy_state(found)[name], value) for name, value in kept.items())
    assert (tmp_path / "latest").resolve() == (tmp_path / "one").resolve()


def test_a_strategy_that_keeps_nothing_has_no_state(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    folder.commit(record(1), STATE, {})
    assert folder.strategy_state(record(1)) == {}


def test_a_model_without_its_journal_entry_is_no_commit(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    folder.commit(record(1), STATE, {})
    (tmp_path / "one" / "models" / TASK / "round-002.safetensors").write_bytes(b"half a file")
    (tmp_path / "one" / "journal" / TASK / ".round-002.json.123").write_text('{"round": 2')
    assert [item.round for item in folder.records(TASK)] == [1]


def test_a_model_that_was_changed_after_its_commit_is_refused(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    folder.commit(record(1), {**STATE, "w": torch.zeros(4)}, {})
    with pytest.raises(RunError, match="not the model the journal committed"):
        folder.model(folder.records(TASK)[0])


def test_resuming_brings_back_the_configuration(tmp_path):
    RunFolder.create(tmp_path / "one", CONFIG).release()
    assert RunFolder.resume(tmp_path / "one")[1] == CONFIG


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    RunFolder.create(tmp_path / "one", CONFIG).release()
    with pytest.raises(ConfigError, match="already holds a run"):
        RunFolder.create(tmp_path / "one", CONFIG)


def test_an_unknown_run_lists_those_there_are(tmp_path):
    RunFolder.create(tmp_path / "one", CONFIG).release()
    with pytest.raises(ConfigError, match="no run 'two' to resume; there are: one"):
        RunFolder.resume(tmp_path / "two")


def test_scenario_16_a_folder_in_use_is_refused(tmp_path):
    RunFolder.create(tmp_path / "one", CONFIG).release()
    first, _ = RunFolder.resume(tmp_path / "one")
    with pytest.raises(RunError, match="in use by another server"):
        RunFolder.resume(tmp_path / "one")
    first.release()
    RunFolder.resume(tmp_path / "one")[0].release()


def test_the_journal_is_json_others_can_read(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    folder.commit(record(1, 0.5), STATE, {})
    raw = json.loads((tmp_path / "one" / "journal" / TASK / "round-001.json").read_text())
    assert raw["sites"]["a"]["status"] == "accepted"
    assert raw["sites"]["a"]["cases"] == 5


def test_a_new_run_says_in_which_format_it_is_written_and_another_is_not_resumed(tmp_path):
    RunFolder.create(tmp_path / "one", CONFIG).release()
    check_format(tmp_path / "one")
    (tmp_path / "one" / "format.json").unlink()
    with pytest.raises(ConfigError, match="one is of format 1, and this version reads format"):
        RunFolder.resume(tmp_path / "one")


def test_sections_of_tasks_are_kept_with_the_configuration(tmp_path):
    raw = {"name": "t", "tasks": ["receptor-status"], "data": {"root": "d", "sites": ["a"]}}
    config = parse_config(raw | {"receptor_status": {"rounds": 3}}, "t")
    RunFolder.create(tmp_path / "one", config).release()
    found = RunFolder.resume(tmp_path / "one")[1]
    assert found == config
    assert found.for_task("receptor-status").federation.rounds == 3
