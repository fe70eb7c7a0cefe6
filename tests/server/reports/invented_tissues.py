"""Invented outlines of tissues, written into a finished run's folder as the server does."""

import json

import numpy as np

from server.evaluation.metric_rows import sum_rows, table_rows
from server.run_folder.pictures import picture_path, store_planes
from server.run_folder.predictions import case_table, write_predictions
from server.run_folder.results import TrainedTask, read_results, write_results
from shared.config.run_config import load_config
from shared.metrics.overlap import structure_metrics
from shared.tasks import task_named
from tests.server.reports.conftest import table

TASK, MODEL = "breast-segmentation", "c" * 64
SPACING = (4.0, 3.0, 3.0)
GRID = np.moveaxis(np.indices((16, 24, 24)), 0, -1) * np.array(SPACING)


def masks(radius, gland, moved=0.0):
    distance = np.sqrt(((GRID - np.array([30.0, 36.0 + moved, 36.0])) ** 2).sum(-1))
    return np.stack([distance < radius, distance < gland])


def measured(pair):
    return structure_metrics(*pair, SPACING, nsd_tolerance_mm=2.0)


def add_tissues(run, *, alone=False, cases=12):
    """Give a finished run the second task, or leave it nothing else."""
    tasks = [TASK] if alone else ["lesion-segmentation", TASK]
    config = run / "config.toml"
    config.write_text(f"tasks = {json.dumps(tasks)}\n" + config.read_text())
    rng = np.random.default_rng(0)
    pairs = {
        f"centre-d-{index:010x}-00000e-R": (
            masks(28 + rng.normal(), 16 + rng.normal(), 2.0),
            masks(29, 12 + 0.7 * index),
        )
        for index in range(cases)
    }
    if cases:
        pairs["centre-d-0000000003-00000e-R"][0][:] = False  # nothing outlined
    settings = load_config(config).evaluation
    columns = {key: measured(pair) for key, pair in pairs.items()}
    cases = case_table(table(columns, "federated", MODEL))
    write_predictions(run, TASK, cases)
    task, sites = task_named(TASK), ("centre-a", "centre-b")
    sums = {site: task.sums(measured((masks(27, 15), masks(28, 14)))) for site in sites}
    rows = [
        *table_rows(cases, task.metrics, settings, task=TASK, seed=3, role="external"),
        *sum_rows(sums, task, settings, seed=3, role="test", model_hash=MODEL),
    ]
    old = read_results(run)
    trained = {} if alone else dict(old.provenance.tasks)
    trained[TASK] = TrainedTask(best=MODEL, final=MODEL, best_round=1, rounds=1)
    kept = [] if alone else list(old.rows)
    write_results(run, [*kept, *rows], old.provenance.model_copy(update={"tasks": trained}))
    entry = {"status": "accepted", "cases": 4, "loss": 0.5, "validation": sums["centre-a"].to_flat()}
    record = {"task": TASK, "round": 1, "model_hash": MODEL, "seconds": 2.0, "sites": dict.fromkeys(sites, entry)}
    (run / "journal" / TASK).mkdir()
    (run / "journal" / TASK / "round-001.json").write_text(json.dumps(record))
    for label, (key, (prediction, reference)) in zip(("best", "median", "worst"), pairs.items(), strict=False):
        volumes = {"image": rng.random(GRID.shape[:3]).astype(np.float32)}
        volumes |= {"reference": reference.sum(0, np.uint8), "prediction": prediction.sum(0, np.uint8)}
        store_planes(picture_path(run, TASK, label), key, volumes, spacing=SPACING, field_mm=150.0)
    return run
