"""A finished run's folder with invented figures: what the server writes, without training anything."""

import json
import shutil
from functools import reduce
from operator import add
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from server.evaluation.metric_rows import sum_rows, table_rows
from server.reports.page import build_report
from server.run_folder.format import write_format
from server.run_folder.pictures import picture_path, select_pictures, store_planes
from server.run_folder.predictions import case_table, write_predictions
from server.run_folder.results import Provenance, TrainedTask, write_results
from shared.config.run_config import load_config
from shared.evaluation import table_row
from shared.metrics.detection import detections
from shared.metrics.overlap import CUBE, case_metrics, matches
from shared.metrics.sums import Sums
from shared.tasks import task_named

TASK = "lesion-segmentation"
SITES = ("centre-a", "centre-b", "centre-c")
BEST, FINAL = "b" * 64, "f" * 64
CONFIG = """
name = "quick"
seed = 3

[data]
root = "data/phantom"
sites = ["centre-a", "centre-b", "centre-c"]
external = "centre-d"

[federation]
rounds = 6
min_sites = 2

[evaluation]
bootstrap = 400
"""
SPACING = (3.0, 1.5, 1.5)


def masks(rng, skill):
    """A blob and a shifted, scaled copy of it: reference and prediction `(24, 48, 48)`."""
    grid = np.moveaxis(np.indices((24, 48, 48)), 0, -1) * np.array(SPACING)
    centre = np.array([36.0, 36.0, 36.0]) + rng.uniform(-4, 4, 3)
    radius = rng.uniform(5, 14)
    reference = ((grid - centre) ** 2).sum(-1) < radius**2
    moved = centre + rng.normal(0, 2.5 * (1 - skill) + 0.5, 3)
    prediction = ((grid - moved) ** 2).sum(-1) < (radius * rng.normal(1.03, 0.12)) ** 2
    return reference, prediction


def measured(reference, prediction):
    """A case's columns, as the task makes them."""
    row = case_metrics(prediction, reference, SPACING, nsd_tolerance_mm=2.0, lesion_overlap=0.1)
    pieces, number = ndimage.label(prediction, CUBE)
    matched, lesions = matches(pieces, number, reference, 0.1)
    return row | detections(np.full(number, 0.9), matched, lesions, 0.5)


def sums(rng, n, skill):
    return reduce(add, [task_named(TASK).sums(measured(*masks(rng, skill))) for _ in range(n)], Sums())


def table(rows, arm, model_hash):
    """The per-case table of one model from columns by case."""
    return [table_row(SimpleNamespace(key=key), "centre-d", arm, model_hash, row) for key, row in rows.items()]


def make_run(root, arms=()):
    """Write the folder and return its path."""
    run = root / "quick-0"
    (run / "journal" / TASK).mkdir(parents=True)
    write_format(run)
    (run / "config.toml").write_text(CONFIG)
    settings = load_config(run / "config.toml")
    rng = np.random.default_rng(0)
    for number in range(1, 7):
        sites = {
            site: {
                "status": "accepted",
                "reason": "",
                "cases": 16,
                "seconds": 8.0,
                "loss": 1.2 / number + 0.05 * index,
                "validation": sums(rng, 3, number / 6).to_flat(),
            }
            for index, site in enumerate(SITES)
        }
        if number == 3:
            sites["centre-b"] |= {"status": "absent", "reason": "no answer within 900 s", "cases": 0, "loss": None}
        record = {"task": TASK, "round": number, "model_hash": f"{number:064x}", "seconds": 9.5, "sites": sites}
        (run / "journal" / TASK / f"round-{number:03d}.json").write_text(json.dumps(record))
    training = {
        "role": "training",
        "included": {"train": 16, "validation": 3, "test": 4},
        "excluded": {"missing_phase": 1},
    }
    external = {"role": "external", "included": {"external": 20}, "excluded": {"no_pixel_spacing": 1, "empty_mask": 2}}
    flow = {"centre-a": training, "centre-b": training | {"excluded": {}}, "centre-c": training, "centre-d": external}
    (run / "cases.json").write_text(json.dumps(flow))

    pairs = {f"centre-d-{index:010x}-00000e-L": masks(rng, 0.7) for index in range(20)}
    pairs["centre-d-0000000007-00000e-L"][1][:] = False  # one failure
    rows = table({key: measured(*pair) for key, pair in pairs.items()}, "federated", BEST)
    weaker = {key: measured(pair[0], np.roll(pair[1], 3, axis=2)) for key, pair in pairs.items()}
    for arm in arms:
        rows += table(weaker, arm, arm)
    predictions = case_table(rows)
    write_predictions(run, TASK, predictions)
    task, seed = task_named(TASK), settings.seed
    rows = table_rows(predictions, task.metrics, settings.evaluation, task=TASK, seed=seed, role="external")
    for role, n in (("test", 4), ("validation", 3)):
        by_site = {site: sums(rng, n, 0.8) for site in SITES}
        rows += sum_rows(by_site, task, settings.evaluation, seed=seed, role=role, model_hash=BEST)
    provenance = Provenance(
        name="quick-0",
        created="2026-01-02T03:04:05+00:00",
        git="0123abc",
        versions={"flwr": "1.42.0", "torch": "2.13.0"},
        seeds={"training": 3, "phantom": 0},
        tasks={TASK: TrainedTask(best=BEST, final=FINAL, best_round=5, rounds=6)},
        seconds=123.4,
        peak_memory_mb=2100.0,
        phantom=True,
    )
    write_results(run, rows, provenance)
    chosen = predictions[(predictions["arm"] == "federated") & (predictions["model_hash"] == BEST)]
    for label, case in select_pictures(chosen).items():
        reference, prediction = pairs[case]
        volumes = {
            "image": (reference * 2.0 + rng.normal(0, 0.3, reference.shape)).astype(np.float32),
            "reference": reference.astype(np.uint8),
            "prediction": prediction.astype(np.uint8),
        }
        store_planes(picture_path(run, TASK, label), case, volumes, spacing=SPACING, field_mm=90.0)
    return run


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """A run alone, and one with other arms beside it; made once."""
    root = tmp_path_factory.mktemp("templates")
    return {"alone": make_run(root / "alone"), "arms": make_run(root / "arms", arms=("local:centre-a", "pooled"))}


@pytest.fixture
def make_folder(tmp_path, templates):
    """Copy a template that a test may change."""

    def copy(kind="alone"):
        return Path(shutil.copytree(templates[kind], tmp_path / kind))

    return copy


@pytest.fixture(scope="session")
def run_dir(templates, tmp_path_factory):
    """A finished run with its page, for tests that only read it."""
    folder = Path(shutil.copytree(templates["alone"], tmp_path_factory.mktemp("read") / "quick-0"))
    build_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(run_dir):
    """The page's text."""
    return (run_dir / "report.html").read_text()
