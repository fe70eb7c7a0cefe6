"""The recipe for a GPU runs to its end: `configs/mama-mia.toml` with small patches, on the phantoms' site folders."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from client.app import app
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.runtime.project import load_run_config

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "mama-mia.toml"
RUN_CONFIG = {"config": "recipe.toml", "seed": -1, "rounds": -1}
SMALL = {
    "preprocessing": {"spacing_mm": [5.0, 5.0, 5.0], "n4": False, "workers": 1},
    "model": {"channels": [4, 4, 4, 4, 4]},
    "training": {"patch_voxels": [16, 16, 16], "steps_per_round": 2},
    "federation": {"rounds": 3, "evaluate_every": 2},
    "compute": {"threads": 1, "loader_workers": 1},
    "evaluation": {"bootstrap": 100},
}


@pytest.mark.slow
def test_the_recipe_runs_to_its_report(project, toy_config):
    root = project()
    raw = tomllib.loads(RECIPE.read_text())
    for name, values in SMALL.items():
        raw[name] = {**raw.get(name, {}), **values}
    data = toy_config()
    raw |= {"data": data["data"], "splits": data["splits"]}
    (root / "recipe.toml").write_text(tomli_w.dumps(raw))
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "recipe", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, 3), config, folder, lambda *_: None)
    folder.release()
    records = folder.records("lesion-segmentation")
    assert [bool(item.evaluated) for item in records] == [False, False, True, True]
    assert {row.role for row in rows} == {"validation", "test", "external"}
    assert read_results(folder.path).provenance.tasks["lesion-segmentation"].best_round in {2, 3}
    assert (folder.path / "report.html").is_file()
