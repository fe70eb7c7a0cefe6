"""Labels that only a task knows, from a column of cases.csv through a federation to the per-case table and its rows."""

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest

from client.app import app
from server.evaluation.case_tables import TrainedModels
from server.evaluation.external_validation import validate_externally
from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.run_folder.predictions import read_predictions
from server.run_folder.round_record import chosen_record
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError, TableError
from shared.runtime.project import load_run_config
from shared.site import open_site, run_cohort
from shared.tasks import TASKS, task_named
from tests.end_to_end.study_in_place import study_in_place
from tests.end_to_end.toy_grade import TASK

ROOT = Path(__file__).resolve().parents[2]
NAME = "lesion-grade"
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
SECTION = {"rounds": 2, "patch": {"voxels": [16, 16, 16]}, "mirrored_copies": 1,
           "training": {"batch_size": 2, "steps_per_round": 3}}  # fmt: skip
WORDS = ("yes", "no", "1", "0", "")


@pytest.fixture
def sites(tmp_path, phantom_root):
    """The phantom's sites with two more columns: grades in turn, one missing, and sizes with decimals."""
    root = tmp_path / "sites"
    for folder in phantom_root.iterdir():
        if folder.is_dir():
            shutil.copytree(folder, root / folder.name, symlinks=True)
            write(root / folder.name, lambda number: {"Grade3": WORDS[number % 5], "size_mm": f"{number}.5"})
    return root


def write(site, columns):
    table = site / "cases.csv"
    with table.open(newline="") as stream:
        rows = [row | columns(number) for number, row in enumerate(csv.DictReader(stream))]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def run(project, sites, monkeypatch):
    monkeypatch.setitem(TASKS, NAME, "tests.end_to_end.toy_grade")
    root = project(tasks=[NAME], data={"root": str(sites)}, lesion_grade=SECTION)
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "one", config)
    yield Federation(InProcessGrid(app, RUN_CONFIG, 3), config, folder, lambda *_: None), config, folder
    folder.release()


def test_a_new_label_goes_from_its_column_to_the_table_and_its_rows(run, sites):
    federation, config, folder = run
    federation.register()
    records = federation.train(task_named(NAME))
    assert [entry.status for entry in records[-1].sites.values()] == ["accepted"] * 3
    assert len({item.model_hash for item in records}) == 3  # it learns
    classes = folder.flow()["centre-a"]["classes"]
    assert set(classes) == {"grade3/positive", "grade3/negative", "grade3/missing", "size_mm/known"}
    assert classes["size_mm/known"] == 5
    assert classes["grade3/missing"] == 1

    best = chosen_record(records)
    trained = TrainedModels({best.model_hash: folder.model(best)}, best.model_hash,
                            {best.model_hash: best.thresholds()})  # fmt: skip
    rows = validate_externally(folder, sites / "centre-d", config, federation.plans, {NAME: trained}, lambda *_: None)
    table = read_predictions(folder.path, NAME)
    assert sorted(table["truth_grade3"].dropna().tolist()) == [0.0, 1.0, 1.0]  # yes, no, 1
    assert sorted(table["truth_size_mm"].tolist()) == [0.5, 1.5, 2.5]
    assert table["score_grade3"].between(0, 1).all()
    found = {row.metric: row for row in rows}
    assert found["auc_grade3"].n == 3
    assert (found["mae_size"].n, found["mae_size"].unit) == (3, "mm")
    assert found["mae_size"].value == pytest.approx((table["score_size_mm"] - table["truth_size_mm"]).abs().mean())


def test_a_study_evaluates_the_new_label_in_every_arm_and_puts_it_on_its_page(project, sites, monkeypatch):
    monkeypatch.setitem(TASKS, NAME, "tests.end_to_end.toy_grade")
    root = project(tasks=[NAME], data={"root": str(sites)}, lesion_grade=SECTION, study={"held_out": ["centre-d"]})
    shutil.copy(ROOT / "pyproject.toml", root)
    out = root / "study"
    study_in_place(out, load_run_config(RUN_CONFIG), monkeypatch)
    table = read_predictions(out, NAME)
    external = table[table["role"] == "external"]
    assert set(external["arm"]) == {"federated", "pooled", "ensemble", *(f"local:centre-{x}" for x in "abc")}
    assert sorted(external[external["arm"] == "federated"]["truth_size_mm"].dropna().tolist()) == [0.5, 1.5, 2.5]
    rows = pd.read_csv(out / "results.csv")
    auc = rows[(rows["metric"] == "auc_grade3") & (rows["role"] == "external")]
    assert set(auc["arm"]) == set(external["arm"])
    # By hand: a positive case above a negative one counts one, and two positives and one negative make two pairs.
    for arm, value in zip(auc["arm"], auc["value"], strict=True):
        own = external[external["arm"] == arm].dropna(subset=["truth_grade3"])
        negative = own[own["truth_grade3"] == 0]["score_grade3"].item()
        positives = own[own["truth_grade3"] == 1]["score_grade3"]
        assert value == ((positives > negative).sum() + 0.5 * (positives == negative).sum()) / 2
    page = (out / "report.html").read_text()
    assert TASK.title in page
    assert "Grade 3" in page


def test_labels_survive_the_sites_list_of_prepared_cases_and_another_tasks_list_is_another(run, sites):
    federation, config, _ = run
    federation.register()
    site = open_site(sites / "centre-a", "centre-a", config)
    plan = federation.plans["mri"]
    given = {split: [case.labels for case in cases] for split, cases in site.prepare("mri", plan).items()}
    again = {split: [case.labels for case in cases] for split, cases in open_site(
        sites / "centre-a", "centre-a", config).prepared("mri", plan).items()}  # fmt: skip
    assert again == given
    known = [labels.other for own in again.values() for labels in own]
    assert sorted(item["size_mm"] for item in known) == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert sum("grade3" not in item for item in known) == 1
    # A run without the task does not read its list, whose labels it would not have.
    other = config.model_copy(update={"tasks": ("lesion-malignancy",)})
    assert open_site(sites / "centre-a", "centre-a", other)._index("mri", plan) != site._index("mri", plan)


def test_a_cell_that_cannot_be_is_told_with_row_and_column_and_the_site_is_missing(run, sites):
    federation, config, _ = run
    write(sites / "centre-b", lambda number: {"Grade3": "perhaps" if number == 3 else "yes"})
    with pytest.raises(TableError) as caught:
        run_cohort(sites / "centre-b", config)
    assert (caught.value.row, caught.value.column) == (5, "grade3")
    federation.register()
    assert "grade3" in federation.lost["centre-b"].reason


def test_sites_without_the_column_have_no_label_of_the_task(run, sites):
    federation, _, _ = run
    for site in ("centre-a", "centre-b", "centre-c"):
        write(sites / site, lambda _: {"Grade3": "", "size_mm": ""})
    # Known before anything is trained.
    with pytest.raises(RunError, match=r"0 of 3 sites can take part in lesion-grade, .*none of its cases has"):
        federation.register()


def test_the_toy_is_a_task_as_the_others_are():
    assert TASK.headline.name == "auc_grade3"
