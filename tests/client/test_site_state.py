"""What a strategy keeps at a site: on disk, by round, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from client.site_state import SiteState
from shared.errors import RunError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path))
    return tmp_path


def value_of(state, number):
    return {name: item.tolist() for name, item in state.after(number).items()}


def test_a_round_meets_what_was_kept_after_the_last_round_before_it():
    state = SiteState("run", "centre-a", "task")
    assert state.after(9) == {}
    for number in (1, 2, 4):
        state.keep(number, {"w": torch.tensor([float(number)])})
    assert value_of(state, 0) == {}
    assert value_of(state, 2) == {"w": [2.0]}
    assert value_of(state, 3) == {"w": [2.0]}
    assert value_of(state, 4) == {"w": [4.0]}


def test_a_round_that_is_done_again_drops_what_came_after_it():
    state = SiteState("run", "centre-a", "task")
    for number in (1, 2, 3):
        state.keep(number, {"w": torch.tensor([float(number)])})
    state.keep(2, {"w": torch.tensor([20.0])})
    assert value_of(state, 3) == {"w": [20.0]}
    state.keep(1, {})
    assert value_of(state, 3) == {"w": [1.0]}


def test_it_outlasts_the_process(cache):
    program = (
        "import torch; from client.site_state import SiteState; "
        "SiteState('run', 'centre-a', 'task').keep(1, {'w': torch.arange(3.0)})"
    )
    environment = os.environ | {"FEDBREAST_CACHE": str(cache)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=Path(__file__).parents[2])
    assert value_of(SiteState("run", "centre-a", "task"), 1) == {"w": [0.0, 1.0, 2.0]}


def test_runs_sites_and_tasks_have_their_own_and_no_name_leads_elsewhere(cache):
    kept = [
        ("../../run", "centre-a", "t"),
        ("run", "centre-a", "t"),
        ("run", "centre-b", "t"),
        ("run", "centre-a", "u"),
    ]
    for number, names in enumerate(kept):
        SiteState(*names).keep(1, {"w": torch.tensor([float(number)])})
    assert [value_of(SiteState(*names), 1)["w"] for names in kept] == [[0.0], [1.0], [2.0], [3.0]]
    assert {path.parents[1] for path in cache.rglob("*.safetensors")} == {cache / "site-state"}


def test_nothing_to_keep_writes_nothing(cache):
    SiteState("run", "centre-a", "task").keep(1, {})
    assert not list(cache.iterdir())


def test_a_write_that_fails_leaves_the_old_state_whole(cache, monkeypatch):
    state = SiteState("run", "centre-a", "task")
    state.keep(1, {"w": torch.tensor([1.0])})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="no space left below the site's cache"):
        state.keep(1, {"w": torch.tensor([2.0])})
    assert value_of(state, 1) == {"w": [1.0]}
    assert len(list(cache.rglob("*.*"))) == 1
