"""`fedbreast run`: what it shows of a run's end, its exit codes, and how a run goes on."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from server.commands.run import run_folder
from server.run_folder.journal import RunFolder
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.phantom.marker import VERSION
from shared.phantom.settings import PhantomSettings
from tests.server.commands.conftest import TOY


def test_a_run_ends_in_the_external_figures_of_the_best_model(call, tmp_path, launched):
    code, out, _ = call("run", "toy.toml", "--name", "first", "--seed", "4", "--rounds", "2")
    assert not code
    assert launched == [(Path("toy.toml"), "first", "", {"seed": 4, "rounds": 2})]
    assert "training 1/2 round 2: training" in out
    assert "PHANTOM DATA" in out
    assert "round 4" in out
    assert "0.625" in out
    assert "0.5 to 0.7" in out
    assert "0.33" not in out
    assert "0.11" not in out
    assert str(tmp_path / "runs" / "first" / "report.html") in out


def test_a_run_without_a_name_gets_one_and_a_resumed_one_keeps_all(call, tmp_path, launched):
    call("run", "toy.toml")
    assert launched[0][1].startswith("toy-2")
    RunFolder.create(tmp_path / "runs" / "first", parse_config(tomllib.loads(TOY), "toy")).release()
    call("run", "--resume", "first")
    assert launched[1] == (tmp_path / "runs" / "first" / "config.toml", "first", "first", {})


def test_a_run_with_more_left_out_than_a_site_allows_ends_with_3_after_its_figures(call, launched):
    code, out, err = call("run", "toy.toml", "--name", "first", "--seed", "333")
    assert code == 3
    assert "report: " in out
    assert "more cases were left out than centre-b allows" in err


def test_a_run_without_a_site_ends_with_3_and_says_which(call, launched):
    code, out, err = call("run", "toy.toml", "--name", "first", "--seed", "222")
    assert code == 3
    assert "report: " in out
    assert err.strip() == "finished, but not with every site: centre-b was absent in round 3 (late)"


def test_phantoms_of_other_settings_are_refused_before_anything_starts(call, tmp_path, launched):
    (tmp_path / "toy.toml").write_text(TOY + "[data.phantom]\nshift = 0.6\n")
    marker = {"version": VERSION, "settings": asdict(PhantomSettings(shift=1.0)), "complete": True}
    (tmp_path / "sites" / "phantom.json").write_text(json.dumps(marker))
    code, _, err = call("run", "toy.toml")
    assert code == 2
    assert "shift 1.0 there, 0.6 wanted" in err
    assert not launched


def test_a_training_site_that_is_no_folder_is_told_before_anything_starts(call, tmp_path, launched):
    (tmp_path / "sites" / "centre-b").rename(tmp_path / "sites" / "centre-bb")
    code, out, err = call("run", "toy.toml")
    assert (code, out, launched) == (2, "", [])
    assert "data.sites names centre-b, and data.root has no such folder (centre-a, centre-bb, centre-d)" in err


def test_a_server_that_is_none_is_told_before_anything_else(call, tmp_path):
    code, out, err = call("run", "toy.toml", "--server", "nosuch")
    assert (code, out) == (2, "")
    assert "nosuch is no server's kit" in err


def test_a_stopped_run_says_how_to_go_on(call, launched):
    code, _, err = call("run", "toy.toml", "--name", "first", "--seed", "666")
    assert code == 130
    assert err.strip() == "stopped; resume with: fedbreast run --resume first"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "/x", ""])
def test_a_runs_name_is_a_plain_folder_name(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="without slashes or a leading dot"):
        run_folder(name or "./")
    assert run_folder("first") == tmp_path / "runs" / "first"
