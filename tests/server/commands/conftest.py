"""The command line called in an empty project; runs that only write results; a run folder and a kit to watch."""

import json
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from server.commands import cli
from server.run_folder.results import Provenance, ResultRow, TrainedTask, write_results
from shared.runtime import terminal
from tests.server.monitoring.conftest import authority, kit, nothing_remembered, port, run  # noqa: F401 - fixtures

TOY = """name = "toy"
[data]
root = "sites"
sites = ["centre-a", "centre-b"]
external = "centre-d"
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call the command line in an empty project; returns exit code, output and errors."""
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    (tmp_path / "toy.toml").write_text(TOY)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedbreast", *map(str, arguments)])
        monkeypatch.setattr(terminal, "console", Console(file=sys.stdout, width=120))
        monkeypatch.setattr(terminal, "errors", Console(file=sys.stderr, soft_wrap=True))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return command


@pytest.fixture
def launched(call, tmp_path, monkeypatch):
    """A `run_flower` that writes results; returns what it was called with."""
    calls = []

    def pretend(path, *, run_name, resume="", overrides=None, watch=None):
        from shared.runtime.progress import Progress

        calls.append((path, run_name, resume, dict(overrides or {})))
        watch(Progress("train", 1, 2, "round 2: training", 0.0))
        folder = tmp_path / "runs" / run_name
        folder.mkdir(parents=True, exist_ok=True)
        if calls[-1][3].get("seed") == 666:
            (folder / "config.toml").write_text(TOY)
            raise KeyboardInterrupt
        common = {"task": "lesion-segmentation", "seed": 0, "unit": "1", "n": 9, "ci_low": 0.5, "ci_high": 0.7}
        rows = [
            ResultRow(arm="federated", centre=centre, role=role, metric="dice", value=value, model_hash=model, **common)
            for centre, role, value, model in (
                ("centre-a", "test", 0.11, "best"),
                ("centre-d", "external", 0.625, "best"),
                ("centre-d", "external", 0.33, "final"),
            )
        ]
        provenance = Provenance(
            name=run_name, created=datetime.now(UTC), git="", versions={}, seeds={}, seconds=1.0, peak_memory_mb=1.0,
            tasks={"lesion-segmentation": TrainedTask(best="best", final="final", best_round=4, rounds=4)},
            phantom=True,
            missing=("centre-b was absent in round 3 (late)",) if calls[-1][3].get("seed") == 222 else (),
        )  # fmt: skip
        write_results(folder, rows, provenance)
        flow = {"role": "training", "included": {"train": 2}, "over_policy": calls[-1][3].get("seed") == 333}
        (folder / "cases.json").write_text(json.dumps({"centre-b": flow}))

    import server.deployment.simulation

    monkeypatch.setattr(server.deployment.simulation, "run_flower", pretend)
    for name in "abd":
        (tmp_path / "sites" / f"centre-{name}").mkdir(parents=True)
    return calls
