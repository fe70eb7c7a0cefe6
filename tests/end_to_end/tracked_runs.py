"""Runs that are told to MLflow, quick ones of sites without images, and what MLflow then holds of them."""

import json
import warnings
from importlib.util import find_spec

import pytest

from server.monitoring import mlflow_tracking
from server.run import run
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from tests.end_to_end.tiny_sites import TASK, site

needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None, reason="MLflow is not installed: pip install -c constraints.txt 'fedbreast[tracking]'"
)


def empty_project(tmp_path, monkeypatch):
    """Its folder; and what a run sets in the environment goes when the test does."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", *mlflow_tracking._PATIENCE):
        monkeypatch.setenv(name, "")  # so that its absence is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    return tmp_path


def carry_out(folder, config, grid):
    try:
        run(grid, config, folder, lambda *_: None)
    finally:
        folder.release()
    return folder


def tiny_run(root, name="one", client=site, resume=False, **settings):
    """A run of three sites without images, in a fraction of a second."""
    path = root / "runs" / name
    if resume:
        folder, config = RunFolder.resume(path)
    else:
        config = parse_config(
            {
                "name": "tiny",
                "data": {"root": "none", "sites": ["site-0", "site-1", "site-2"]},
                "model": {"channels": [8, 8], "deep_supervision": 1},
                "federation": {"rounds": 3},
                "tracking": settings,
            },
            "tiny",
        )
        folder = RunFolder.create(path, config)
    return carry_out(folder, config, InProcessGrid(client, {}, 3))


def in_round(number, act):
    """A site's answers, with something done before it trains in one round."""

    def client(message, context):
        if message.metadata.message_type == "train" and message.content["header"]["round"] == number:
            act()
        return site(message, context)

    return client


def raising(error):
    def act(*_):
        raise error

    return act


class Stored:
    """What MLflow holds of one run, as its own client reads it."""

    def __init__(self, root, folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow's own libraries
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=f"sqlite:///{root}/runs/mlflow.db")
            self.name = json.loads((folder.path / "mlflow.json").read_text())["run_id"]
            self.run = client.get_run(self.name)
            self.status = self.run.info.status
            self.runs = client.search_runs([client.get_experiment_by_name("fedbreast").experiment_id])
            self.metrics = {
                key: [(item.step, item.value) for item in client.get_metric_history(self.name, key)]
                for key in self.run.data.metrics
            }
        self.artifacts = root / "runs" / "mlflow-artifacts" / self.name / "artifacts"


def journal_history(folder):
    """The metrics of all rounds, from the journal's files."""
    expected = {}
    for path in sorted((folder.path / "journal" / TASK).glob("round-*.json")):
        record = json.loads(path.read_text())
        if record["round"] == 0:
            continue
        sums = {name: entry["validation"] for name, entry in record["sites"].items()}
        dice, n = (sum(item[key] for item in sums.values()) for key in ("dice.total", "dice.n"))
        figures = {"seconds": record["seconds"], "validation": dice / n}
        for name, entry in record["sites"].items():
            figures[f"{name}/loss"] = entry["loss"]
            figures[f"{name}/validation"] = sums[name]["dice.total"] / sums[name]["dice.n"]
        for key, value in figures.items():
            expected.setdefault(f"{TASK}/{key}", []).append((record["round"], value))
    return expected


def hashes(folder):
    return [item.model_hash for item in folder.records(TASK)]
