"""Ensemble and radiomics in one run: the locked centre yields their fusion, and the report shows the rivals."""

import re

import numpy as np
import pytest

from client.app import app
from server.evaluation.late_fusion import fusion_table
from server.reports.page import build_report
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.predictions import read_predictions
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.cohort.labels import SUBTYPES
from shared.runtime.project import load_run_config

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
SCORES = [f"score_{name}" for name in SUBTYPES]
TINY = {"rounds": 1, "patch": {"voxels": [16, 16, 16]}, "training": {"batch_size": 2, "steps_per_round": 1}}
ENSEMBLE = TINY | {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"}


def test_a_run_of_both_fuses_their_chosen_models_and_rebuilds_its_report(project):
    pytest.importorskip("radiomics", reason="the extra `radiomics` is not installed")
    root = project(
        tasks=["subtype-ensemble", "subtype-radiomics"],
        subtype_ensemble=ENSEMBLE | {"mirrored_copies": 1},
        subtype_radiomics=TINY | {"patch": {"voxels": [16, 16, 16], "spacing_mm": 2.0}},
        evaluation={"explained_per_subtype": 0},
    )
    folder = RunFolder.create(root / "runs" / "rivals", load_run_config(RUN_CONFIG))
    rows = run(InProcessGrid(app, RUN_CONFIG, 3), load_run_config(RUN_CONFIG), folder, lambda *_: None)
    folder.release()
    chosen = {task: made.best for task, made in read_results(folder.path).provenance.tasks.items()}
    parts = []
    for task, model_hash in chosen.items():
        table = read_predictions(folder.path, task)
        own = table[(table["arm"] == "federated") & (table["model_hash"] == model_hash)]
        parts.append(own.set_index("case")[SCORES])
    both = np.sqrt(parts[0] * parts[1])
    fused = read_predictions(folder.path, fusion_table("subtype-ensemble"))
    pooled = fused.set_index("case")[SCORES]
    np.testing.assert_allclose(pooled, both.div(both.sum(axis=1), axis=0), rtol=1e-9)
    assert set(fused["model_hash"]) == {"+".join(chosen.values())}
    assert [row.n for row in rows if (row.arm, row.metric) == ("fusion", "auc_macro")] == [len(pooled)]
    page = (folder.path / "report.html").read_text()
    assert re.findall(r'<th scope="row" class="nowrap">(Radiomics|Fusion)</th>', page)[:2] == ["Radiomics", "Fusion"]
    assert build_report(folder.path).read_text() == page
