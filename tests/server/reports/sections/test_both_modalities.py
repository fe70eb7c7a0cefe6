"""A page's section of MRI and mammography fused: on the same breasts, with the numbers that are stored."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from server.evaluation.arm_comparison import compare_arms
from server.evaluation.modality_fusion import fuse_modalities
from server.reports.metric_text import fixed
from server.reports.page import build_report
from server.run_folder.format import write_format
from server.run_folder.predictions import read_predictions, write_predictions
from server.run_folder.results import Provenance, TrainedTask, read_results, write_results
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.tasks import task_named
from tests.server.reports.invented_classifiers import BEST, SETTINGS, cases, external, text_of

MRI, MAMMOGRAMS, OTHER = "lesion-malignancy", "mammography-malignancy", "c" * 64
TABLE = f"{MRI}-and-{MAMMOGRAMS}"
ARM = f"both:{MAMMOGRAMS}:"
CONFIG = f"""
name = "both"
tasks = ["{MRI}", "{MAMMOGRAMS}"]
seed = 3

[data]
root = "data/phantom"
sites = ["centre-a", "centre-b"]
external = "centre-d"

[evaluation]
bootstrap = 100
"""


def malignancy(n, seed, **changes):
    """Every other breast is malignant."""
    truth = np.arange(n) % 2
    scores = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(truth - 0.5, 1)))
    return cases({"truth_malignant": truth, "score_malignant": scores}, **changes)


def make_run(run, mammograms):
    """A finished run of both tasks: MRI of 30 breasts, and these answers to mammograms."""
    run.mkdir(parents=True)
    write_format(run)
    (run / "config.toml").write_text(CONFIG)
    (run / "cases.json").write_text(json.dumps({"centre-d": {"role": "external", "included": {"external": 70}}}))
    tables, hashes = {MRI: malignancy(30, 1), MAMMOGRAMS: mammograms}, {MRI: BEST, MAMMOGRAMS: OTHER}
    rows = []
    for task, table in tables.items():
        write_predictions(run, task, table)
        rows += external(table, task)
    rows += fuse_modalities(run, load_config(run / "config.toml"), tables)
    trained = {task: TrainedTask(best=name, final=name, best_round=1, rounds=0) for task, name in hashes.items()}
    provenance = Provenance(
        name="both", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, tasks=trained, seconds=1.0,
        peak_memory_mb=1.0, phantom=True,
    )  # fmt: skip
    write_results(run, rows, provenance)
    return run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("both") / "run", malignancy(40, 2, model_hash=OTHER))


@pytest.fixture(scope="module")
def page(run_dir):
    return build_report(run_dir).read_text()


@pytest.fixture
def changed(run_dir, tmp_path):
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def own_part(page):
    return re.search(rf'<section id="{TABLE}">.*?</section>', page, re.DOTALL)[0]


def test_the_fusion_stands_beside_each_alone_with_the_stored_rows_of_the_same_breasts(run_dir, page):
    stored = {row.arm.removeprefix(ARM): row for row in read_results(run_dir).rows if row.metric == "auc_malignant"}
    lines = re.findall(
        r'<th scope="row" class="nowrap">(\w+)</th><td class="num">'
        r'<span data-metric="auc_malignant" data-value="([^"]+)">.*?<td class="num">(\d+)</td></tr>', own_part(page),
    )  # fmt: skip
    assert lines == [
        (name, str(stored[arm].value), "30")
        for name, arm in (("Fusion", "fusion"), ("MRI", "mri"), ("Mammography", "mammography"))
    ]
    assert stored["mammography"].value != next(
        row.value for row in read_results(run_dir).rows if (row.task, row.metric) == (MAMMOGRAMS, "auc_malignant")
    )
    text = text_of(own_part(page))
    assert "Malignant, MRI and mammography together at centre-d" in text
    assert "Left out: 10 breasts that only one answered." in text
    assert "15 of 30" in text


def test_each_alone_is_tested_against_the_fusion(run_dir, page):
    table = read_predictions(run_dir, TABLE)
    auc = task_named(MRI).headline
    tests = compare_arms(table, f"{ARM}fusion", [auc], SETTINGS, seed=3).set_index("arm")
    text = text_of(own_part(page)).split("Differences from the fusion's AUC")[1]
    for name, arm in (("MRI", "mri"), ("Mammography", "mammography")):
        row = tests.loc[f"{ARM}{arm}"]
        assert row["n"] == 30
        shown = {key: fixed(row[key], 3) for key in ("difference", "low", "high", "p", "p_holm")}
        assert "{difference} {low} to {high} p {p}, Holm {p_holm} 30".format(**shown) in text.split(name)[1]
    assert "DeLong's paired test" in text
    assert "All answered the same cases." in text


def test_the_lead_tells_of_it_and_the_tasks_own_sections_do_not(run_dir, page):
    row = next(r for r in read_results(run_dir).rows if (r.arm, r.metric) == (f"{ARM}fusion", "auc_malignant"))
    lead = text_of(page.split('class="lead">')[1].split("</div>")[0])
    assert (
        f"On 30 phantom breasts of centre-d that both answered, with 95% intervals: AUC, Malignant: fusion "
        f"{fixed(row.value, 3)} ({fixed(row.ci_low, 3)} to {fixed(row.ci_high, 3)}), MRI "
    ) in lead
    own = re.search(rf'<section id="{MRI}">.*?</section>', page, re.DOTALL)[0]
    assert "usion" not in text_of(own)
    assert "both:" not in text_of(own).lower()


def test_the_same_folder_gives_the_same_bytes(changed, page):
    assert build_report(changed).read_text() == page


def test_a_lost_table_is_named_and_an_older_run_has_no_such_section(changed):
    (changed / "predictions" / f"{TABLE}.parquet").unlink()
    with pytest.raises(RunError, match=f"{TABLE}.parquet"):
        build_report(changed)
    stored = read_results(changed)
    write_results(changed, [row for row in stored.rows if not row.arm.startswith("both:")], stored.provenance)
    assert "MRI and mammography together" not in text_of(build_report(changed).read_text())


def test_a_centre_without_a_breast_of_both_is_said(tmp_path):
    others = malignancy(20, 2, model_hash=OTHER)
    others = others.assign(
        case=others["case"].str.replace("-0", "-9"), patient=others["patient"].str.replace("-0", "-9")
    )
    text = text_of(own_part(build_report(make_run(tmp_path / "run", others)).read_text()))
    assert "No breast of centre-d has an answer of both: there is nothing to fuse." in text
    assert "Left out: 50 breasts that only one answered." in text
