"""Tracking against MLflow's own store; whole runs are in `end_to_end/test_tracking.py`."""

import pytest

from server.monitoring import mlflow_tracking
from server.monitoring.mlflow_tracking import KEPT, open_tracking
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from tests.end_to_end.tracked_runs import empty_project, needs_mlflow

LESION = "lesion-segmentation"


def config_with(**tracking):
    return parse_config({"name": "tiny", "data": {"root": "d", "sites": ["a", "b"]}, "tracking": tracking}, "run.toml")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    root = empty_project(tmp_path, monkeypatch)
    made = RunFolder.create(root / "runs" / "one", config_with(mlflow=True))
    yield made
    made.release()


def stored(folder):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    (entry,) = client.search_runs([client.get_experiment_by_name("fedbreast").experiment_id])
    return entry, {name: client.get_metric_history(entry.info.run_id, name) for name in entry.data.metrics}


@needs_mlflow
def test_a_round_is_sent_once_and_a_failed_run_is_marked_as_failed(folder):
    config = config_with(mlflow=True)
    record = RoundRecord(LESION, 1, "aa", 12.5, {"a": SiteEntry("accepted", cases=3, loss=0.75)})
    with open_tracking(config, folder, lambda: {"git": "abc"}) as tracking:
        tracking.evaluated(record)
        tracking.evaluated(record)
        tracking.__exit__(RuntimeError, RuntimeError(), None)
    entry, history = stored(folder)
    assert entry.info.status == "FAILED"
    assert (entry.data.tags["run"], entry.data.tags["git"]) == ("one", "abc")
    assert entry.data.params["data.sites"] == "a, b"
    assert [(item.step, item.value) for item in history[f"{LESION}/seconds"]] == [(1, 12.5)]
    assert (folder.path / KEPT).is_file()


@needs_mlflow
def test_where_mlflow_fails_the_run_goes_on(folder, monkeypatch, caplog):
    (folder.path.parent / "mlflow.db").mkdir()  # no database can be opened there
    with open_tracking(config_with(mlflow=True), folder, dict) as tracking:
        tracking.evaluated(RoundRecord(LESION, 1, "aa", 1.0))
    assert "MLflow failed (OperationalError) and is told no more" in caplog.text


def test_a_run_that_is_not_tracked_touches_nothing(folder):
    with open_tracking(config_with(), folder, dict) as tracking:
        tracking.evaluated(RoundRecord(LESION, 1, "aa", 1.0))
        tracking.finish()
    assert not (folder.path / KEPT).exists()
    assert not list(folder.path.parent.glob("mlflow*"))


def test_without_mlflow_a_run_that_asks_for_it_ends_before_anything_is_trained(folder, monkeypatch):
    monkeypatch.setattr(mlflow_tracking, "find_spec", lambda _name: None)
    # No grid: not even the sites are asked.
    with pytest.raises(ConfigError, match=r"pip install .*'fedbreast\[tracking\]'"):
        run(None, config_with(mlflow=True), folder, lambda *_: None)
    assert not (folder.path / "journal").exists()
