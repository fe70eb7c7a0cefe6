"""The worked examples of docs/extending.md, as they stand there: added by their files and one line of a table each."""

import csv
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.app import app
from server.commands.cli import app as command_line
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.cohort.importers import IMPORTERS
from shared.runtime.project import load_run_config
from shared.strategies import STRATEGIES
from shared.tasks import TASKS, task_named

ROOT = Path(__file__).resolve().parents[1]
FILE = re.compile(r"```python\n# file: (?P<path>\S+)\n(?P<code>.*?)```", re.DOTALL)
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def written(folder):
    """The examples as files below `folder`, each at its own place."""
    for example in FILE.finditer((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        file = folder / example["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(example["code"])
        yield file


def passes(*command):
    command = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_pass_the_projects_own_linter(tmp_path):
    files = list(written(tmp_path))
    assert len(files) == 4
    config = ("--no-cache", "--config", ROOT / "pyproject.toml", *files)
    passes("ruff", "check", "--ignore", "INP001", *config)
    passes("ruff", "format", "--check", *config)


@pytest.mark.slow
def test_the_examples_pass_the_projects_own_types(tmp_path):
    passes("mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path / "mypy", *written(tmp_path))


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Each example as a module of its own, and the lines in the tables."""
    modules = {}
    for file in written(tmp_path / "examples"):
        name = f"example_{file.stem}"
        spec = spec_from_file_location(name, file)
        modules[file.stem] = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, modules[file.stem])
        spec.loader.exec_module(modules[file.stem])
    monkeypatch.setitem(TASKS, "lesion-grade", "example_lesion_grade")
    monkeypatch.setitem(STRATEGIES, "slowmo", "example_slowmo")
    monkeypatch.setitem(IMPORTERS, "example-set", "example_example_set")
    outlines = task_named("lesion-segmentation")
    with_metric = replace(outlines, metrics=(*outlines.metrics, modules["lesion_miss"].MISSED))
    monkeypatch.setattr(sys.modules["shared.tasks.lesion_segmentation"], "TASK", with_metric)
    return modules


@pytest.fixture
def imported(examples, phantom_root, tmp_path):
    """The phantom's exams as a downloaded dataset, imported by the command; every other lesion has a high grade."""
    lines = []
    for folder in sorted(item for item in phantom_root.iterdir() if item.is_dir()):
        with (folder / "cases.csv").open(newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream)):
                images = f"{folder.name}/{row['path']}" if row.get("path") else ""
                lines.append([row["patient_id"], folder.name, row["side"], row.get("exam", ""), images,
                              f"{folder.name}/{row['mask']}", "yes" if number % 2 else "no"])  # fmt: skip
    dataset = tmp_path / "download"
    dataset.mkdir()
    for folder in phantom_root.iterdir():
        if folder.is_dir():
            (dataset / folder.name).symlink_to(folder)
    with (dataset / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["patient", "hospital", "side", "exam", "images", "mask", "grade"], *lines, ["p", "x", "", "", "", "", ""]]
        )
    # Links out of a folder are not followed: the root that holds them all is.
    (phantom_root / "list.csv").write_bytes((dataset / "list.csv").read_bytes())
    try:
        result = CliRunner().invoke(
            command_line, ["import", "example-set", str(phantom_root), "--out", str(tmp_path / "sites")]
        )
    finally:
        (phantom_root / "list.csv").unlink()
    assert result.exit_code == 0, result.output
    assert "left out: 1 (no side)" in result.output
    return tmp_path / "sites"


def test_task_label_metric_strategy_and_importer_run_together_to_the_page(examples, imported, project):
    sites = sorted(path.name for path in imported.iterdir())
    assert sites == ["centre-a", "centre-b", "centre-c", "centre-d"]
    root = project(
        tasks=["lesion-segmentation", "lesion-grade"],
        data={"root": str(imported)},
        federation={"strategy": "slowmo", "slowmo": {"momentum": 0.2}, "rounds": 2},
        lesion_grade={"rounds": 2, "training": {"steps_per_round": 2, "batch_size": 2}},
    )
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "extended", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, 3), config, folder, lambda *_: None)
    folder.release()
    roles = {(row.task, row.metric): set() for row in rows}
    for row in rows:
        roles[row.task, row.metric].add(row.role)
    assert roles["lesion-segmentation", "missed_lesions"] >= {"external", "validation"}
    assert "external" in roles["lesion-grade", "auc_grade3"]
    page = (folder.path / "report.html").read_text()
    assert all(words in page for words in ("Histological grade", "Missed lesions", "SlowMo", "High grade"))
    assert (folder.path / "journal" / "lesion-segmentation" / "round-002.strategy").is_file()
    assert set(read_results(folder.path).provenance.tasks) == {"lesion-segmentation", "lesion-grade"}
