"""Runs told to MLflow, read back from its own store."""

import csv
import json
import tomllib

import pytest

from client.app import app
from server.monitoring import mlflow_tracking
from server.monitoring.mlflow_tracking import Tracking
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.runtime.project import load_run_config
from tests.end_to_end.tiny_sites import TASK, site
from tests.end_to_end.tracked_runs import (
    Stored,
    carry_out,
    empty_project,
    in_round,
    journal_history,
    needs_mlflow,
    raising,
    tiny_run,
)

pytestmark = needs_mlflow
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    return empty_project(tmp_path, monkeypatch)


class Killed(BaseException):
    """What no `except Exception` sees."""


def external_history(folder):
    """The metrics of the external centre, from the results' files."""
    best = json.loads((folder.path / "results.json").read_text())["provenance"]["tasks"][TASK]["best"]
    expected = {}
    with (folder.path / "results.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            key = f"{TASK}/{'' if row['model_hash'] == best else 'final/'}external/{row['metric']}"
            for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
                if row["role"] == "external" and row[column]:
                    expected[key + end] = [(0, float(row[column]))]
    return expected


def settings_of(folder):
    """Keys and values of the run's own `config.toml`, flat."""
    found = {}

    def walk(section, path):
        for key, value in section.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key}.")
            else:
                found[path + key] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    walk(tomllib.loads((folder.path / "config.toml").read_text()), "")
    return found


def test_what_mlflow_holds_is_what_journal_results_and_configuration_hold(project, phantom_root):
    root = project(tracking={"mlflow": True}, data={"root": "sites"})
    (root / "sites").symlink_to(phantom_root)
    config = load_run_config(RUN_CONFIG)
    folder = carry_out(RunFolder.create(root / "runs" / "one", config), config, InProcessGrid(app, RUN_CONFIG, 3))
    stored = Stored(root, folder)
    rounds, external = journal_history(folder), external_history(folder)
    assert stored.metrics == rounds | external
    assert len(rounds) == 2 + 2 * 3
    assert {f"{TASK}/external/dice{end}" for end in ("", "_low", "_high")} <= set(external)

    own = {"data.root", "tracking.mlflow", "tracking.uri", "tracking.experiment"}
    assert stored.run.data.params == {key: value for key, value in settings_of(folder).items() if key not in own}
    assert own <= set(settings_of(folder))
    assert stored.run.data.tags == {
        "run": "one", "seed": "0", "use": "research software", "git": "", "phantom": "yes", "mlflow.runName": "one",
    }  # fmt: skip
    assert stored.status == "FINISHED"

    assert {item.name for item in stored.artifacts.iterdir()} == set(mlflow_tracking.ARTIFACTS)
    for name in mlflow_tracking.ARTIFACTS:
        assert (stored.artifacts / name).read_bytes() == (folder.path / name).read_bytes()

    held = b"".join(
        path.read_bytes() for path in (root / "runs" / "mlflow.db", *stored.artifacts.iterdir()) if path.is_file()
    )
    assert b"centre-a" in held
    patients = set()
    for table in phantom_root.glob("*/cases.csv"):
        with table.open(newline="") as stream:
            patients |= {row["patient_id"] for row in csv.DictReader(stream)}
    assert len(patients) == 3 * 5 + 3
    paths = (str(phantom_root), str(root / "sites"), str(root / ".cache"))
    assert not [word for word in (*paths, *patients) if word.encode() in held]


def cut_in_training(_monkeypatch):
    return in_round(3, raising(Killed))


def cut_before_the_round_is_told(monkeypatch):
    told = Tracking.evaluated
    monkeypatch.setattr(
        Tracking, "evaluated", lambda own, item: raising(Killed)() if item.round == 2 else told(own, item)
    )
    return site


@pytest.mark.parametrize("cut", [cut_in_training, cut_before_the_round_is_told])
@pytest.mark.parametrize("left", ["KILLED", "RUNNING"])
def test_a_killed_run_goes_on_in_its_entry_and_no_round_stands_there_twice(root, cut, left):
    with pytest.MonkeyPatch.context() as patch:
        if left == "RUNNING":  # the process had no time to say anything
            patch.setattr(Tracking, "__exit__", lambda *_: None)
        with pytest.raises(Killed):
            tiny_run(root, client=cut(patch), mlflow=True)
    folder = RunFolder(root / "runs" / "one")
    before = Stored(root, folder)
    assert before.status == left
    # The second round's model is evaluated while the third one trains.
    assert [step for step, _ in before.metrics[f"{TASK}/seconds"]] == [1]

    seen = set()
    tiny_run(root, client=in_round(3, lambda: seen.add(Stored(root, folder).status)), resume=True)
    after = Stored(root, folder)
    assert seen == {"RUNNING"}
    assert (after.name, after.status, len(after.runs)) == (before.name, "FINISHED", 1)
    assert after.metrics == journal_history(folder)
    assert len(after.metrics[f"{TASK}/seconds"]) == 3
    # Its report is made again, and MLflow has nothing to learn from that.
    tiny_run(root, resume=True)
    assert Stored(root, folder).metrics == after.metrics


def test_a_failed_run_is_told_as_failed(root):
    with pytest.raises(RunError):
        tiny_run(root, client=in_round(3, raising(ZeroDivisionError)), mlflow=True)
    stored = Stored(root, RunFolder(root / "runs" / "one"))
    assert stored.status == "FAILED"
    assert {step for items in stored.metrics.values() for step, _ in items} == {1}


def test_two_runs_are_two_entries_of_one_experiment(root):
    folders = [tiny_run(root, name, mlflow=True) for name in ("one", "two")]
    assert {item.info.run_name for item in Stored(root, folders[0]).runs} == {"one", "two"}
