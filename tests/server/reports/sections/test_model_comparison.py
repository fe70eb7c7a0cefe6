"""Rivals on the same cases: radiomics and the fusion beside the ensemble, with the numbers that are stored."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from server.evaluation.arm_comparison import compare_arms
from server.evaluation.late_fusion import fuse_rivals, fusion_table
from server.reports.metric_text import fixed
from server.reports.page import build_report
from server.reports.sections.external_data import external_data
from server.reports.sections.task_section import task_section
from server.run_folder.finished_run import read_finished_run
from server.run_folder.format import write_format
from server.run_folder.predictions import read_predictions, write_predictions
from server.run_folder.results import Provenance, TrainedTask, read_results, write_results
from shared.cohort.labels import SUBTYPES
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.tasks import task_named
from tests.server.reports.invented_classifiers import (
    BEST,
    END,
    ORACLE,
    SETTINGS,
    external,
    internal,
    subtypes,
    text_of,
)

ENSEMBLE, LINEAR, RIVAL = "subtype-ensemble", "subtype-radiomics", "c" * 64
TABLE = fusion_table(ENSEMBLE)
AREAS = [metric for metric in task_named(ENSEMBLE).metrics if metric.sent == "histogram"]
ALONE = ("axial", "coronal", "sagittal", "volume")
CONFIG = """
name = "rivals"
tasks = ["subtype-ensemble", "subtype-radiomics"]
seed = 3

[data]
root = "data/phantom"
sites = ["centre-a", "centre-b", "centre-c"]
external = "centre-d"

[evaluation]
bootstrap = 100
"""


def make_run(run, linear):
    """A finished run of both tasks; `linear` is what the external centre has of radiomics."""
    run.mkdir(parents=True)
    write_format(run)
    (run / "config.toml").write_text(CONFIG)
    (run / "cases.json").write_text(json.dumps({"centre-d": {"role": "external", "included": {"external": 60}}}))
    branches = [subtypes(f"federated:{name}", seed=2 + index) for index, name in enumerate(ALONE)]
    tables = {ENSEMBLE: pd.concat([subtypes(), *branches]), LINEAR: linear}
    hashes = {ENSEMBLE: BEST, LINEAR: RIVAL}
    rows = []
    for task, table in tables.items():
        write_predictions(run, task, table)
        rows += external(table, task, oracle=ORACLE)
        rows += internal(task, model_hash=hashes[task])
    chosen = {task: table[table["arm"] == "federated"] for task, table in tables.items()}
    rows += fuse_rivals(run, load_config(run / "config.toml"), chosen)
    trained = {task: TrainedTask(best=name, final=name, best_round=1, rounds=0) for task, name in hashes.items()}
    provenance = Provenance(
        name="rivals", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, tasks=trained, seconds=1.0,
        peak_memory_mb=1.0, phantom=True,
    )  # fmt: skip
    write_results(run, rows, provenance)
    return run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("rivals") / "run", subtypes(seed=7, model_hash=RIVAL))


def sections(run):
    runs = read_finished_run(run)
    return [task_section(item, external_data(item, runs), runs) for item in runs]


@pytest.fixture(scope="module")
def ensemble(run_dir):
    return sections(run_dir)[0]


@pytest.fixture(scope="module")
def page(run_dir):
    return build_report(run_dir).read_text()


@pytest.fixture
def changed(run_dir, tmp_path):
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_each_rival_has_a_line_with_its_stored_rows_and_n(run_dir, ensemble):
    stored = {(r.task, r.arm, r.metric): r for r in read_results(run_dir).rows if r.role == "external"}
    lines = {line["name"]: line for line in ensemble["scores"]["auc"]["lines"]}
    assert list(lines) == [
        "Ensemble",
        *(f"{name.capitalize()} alone" for name in ALONE),
        "Radiomics",
        "Fusion",
        "Best possible",
    ]
    for name, (task, arm) in {"Radiomics": (LINEAR, "federated"), "Fusion": (ENSEMBLE, "fusion")}.items():
        for shown, label in zip(lines[name]["rows"], ("macro", *SUBTYPES), strict=True):
            assert shown == stored[task, arm, f"auc_{label}"]
            assert shown.model_hash == {"Radiomics": RIVAL, "Fusion": f"{BEST}+{RIVAL}"}[name]
        assert lines[name]["n"] == 60


def test_tests_against_branches_radiomics_and_fusion_are_one_family_of_holm(run_dir, ensemble, page):
    tables = [read_predictions(run_dir, ENSEMBLE), read_predictions(run_dir, TABLE)]
    linear = read_predictions(run_dir, LINEAR).assign(arm="radiomics")
    found = compare_arms(pd.concat([*tables, linear]), "federated", AREAS, SETTINGS, seed=3).set_index(
        ["arm", "metric"]
    )
    assert len(found) == 30
    text, arms = text_of(page), [*(f"federated:{name}" for name in ALONE), "radiomics", "fusion"]
    for line, arm in zip(ensemble["scores"]["tests"]["lines"], arms, strict=True):
        words = []
        for label in SUBTYPES:
            row = found.loc[(arm, f"auc_{label}")]
            shown = {key: fixed(row[key], 3) for key in row.index if key != "n"}
            small = {key: "<0.001" if row[key] < 0.001 else shown[key] for key in ("p", "p_holm")}
            words.append("{difference} {low} to {high} p {p}, Holm {p_holm}".format(**shown | small))
        mean = "{:} {:} to {:}".format(
            *(fixed(x, 3) for x in found.loc[(arm, "auc_macro"), ["difference", "low", "high"]])
        )
        assert f"{line['arm']} {mean} {' '.join(words)} 60 " in text
    assert (found["p_holm"].dropna() >= found["p"].dropna()).all()
    assert "over all 24 p of this table" in text
    assert "All answered the same cases." in text


def test_every_figure_shown_is_stored(run_dir, page):
    rows = read_results(run_dir).rows
    shown = set(re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)"', page))
    assert shown <= {(row.metric, str(row.value)) for row in rows}
    rivals = {(row.metric, str(row.value)) for row in rows if row.arm == "fusion" and row.metric == "auc_macro"}
    assert rivals <= shown
    bounds = set(re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', page))
    assert bounds <= {(str(row.ci_low), str(row.ci_high)) for row in rows}


def test_curves_and_the_lead_name_the_rivals(run_dir, ensemble, page):
    roc = ensemble["scores"]["figures"][0]
    assert re.findall(r">(ensemble|radiomics|fusion)<", str(roc["svg"])) == ["ensemble", "radiomics", "fusion"]
    assert "Thin: parts of the network alone." in roc["caption"]
    found = {row.arm: row for row in read_results(run_dir).rows if (row.task, row.metric) == (ENSEMBLE, "auc_macro")}
    row = found["fusion"]
    lead = page.split('class="lead">')[1].split("</div>")[0]
    assert "which never trained, the ensemble's AUC, mean of the four, is 0." in lead.replace("&#39;", "'")
    assert "Its rivals on these cases: radiomics 0." in lead
    assert f"and fusion {row.value:.3f} ({row.ci_low:.3f} to {row.ci_high:.3f}, n = 60)." in lead
    assert lead.count("which never trained") == 1  # radiomics is told of once


def test_radiomics_own_section_has_only_what_the_ensembles_has_not(run_dir, page):
    ensemble, own = sections(run_dir)
    assert own["scores"]["auc"] is own["scores"]["tests"] is None
    assert [item["caption"].split(",")[0] for item in own["scores"]["figures"]] == ["Calibration"]
    assert [len(own["scores"][table]["lines"]) for table in ("thresholds", "further")] == [2, len(SUBTYPES)]
    assert [item["table"]["lines"][-1]["rows"][0].model_hash for item in own["sites"]] == [RIVAL, RIVAL]
    assert f'Its AUCs stand under <a href="#{ensemble["anchor"]}">Molecular subtype</a>' in page


def test_radiomics_that_was_read_end_to_end_keeps_its_own_table(tmp_path):
    linear = pd.concat([subtypes(seed=7, model_hash=RIVAL), subtypes(END, seed=8, model_hash=RIVAL)])
    ensemble, own = sections(make_run(tmp_path / "run", linear))
    assert [line["name"] for line in own["scores"]["auc"]["lines"]] == [
        "Reference outline", "End to end", "Best possible",
    ]  # fmt: skip
    assert {line["arm"] for line in own["scores"]["tests"]["lines"]} == {"End to end"}
    assert "End to end" not in {line["arm"] for line in ensemble["scores"]["tests"]["lines"]}


def test_cases_that_only_one_answered_are_left_out_and_counted(tmp_path):
    linear = subtypes(seed=7, model_hash=RIVAL)
    linear = linear[~linear["case"].isin(linear["case"].unique()[:3])]
    run = make_run(tmp_path / "run", linear)
    part = sections(run)[0]
    assert {line["name"]: line["n"] for line in part["scores"]["auc"]["lines"][-3:-1]} == {
        "Radiomics": 57,
        "Fusion": 57,
    }
    tests = {(line["arm"], line["n"]) for line in part["scores"]["tests"]["lines"]}
    assert {("Radiomics", "57"), ("Fusion", "57"), ("Volume alone", "60")} <= tests
    words = "Left out, as only one of the two answered them: 3 with radiomics and 3 with fusion."
    assert words in text_of(build_report(run).read_text())


def test_the_same_folder_gives_the_same_bytes(changed, page):
    assert build_report(changed).read_text() == page


def test_a_lone_ensemble_and_a_run_older_than_the_fusion_have_no_such_rival(changed):
    stored = read_results(changed)
    older = [row for row in stored.rows if row.arm != "fusion"]
    write_results(changed, older, stored.provenance)
    (changed / "predictions" / f"{TABLE}.parquet").unlink()
    assert [line["name"] for line in sections(changed)[0]["scores"]["auc"]["lines"]][-2:] == [
        "Radiomics",
        "Best possible",
    ]
    alone, linear = (task_section(run, external_data(run), [run]) for run in read_finished_run(changed))
    assert alone["scores"]["auc"]["lines"][0]["name"] == "Reference outline"
    assert "rivals" not in alone["sentence"]
    assert linear["scores"]["auc"] is not None


def test_a_lost_table_of_the_fusion_is_named(changed):
    (changed / "predictions" / f"{TABLE}.parquet").unlink()
    with pytest.raises(RunError, match=f"{TABLE}.parquet"):
        build_report(changed)


def test_the_last_round_stands_beside_the_chosen_one(changed):
    stored = read_results(changed)
    later = [
        row.model_copy(update={"model_hash": "f" * 64, "value": 0.123})
        for row in stored.rows
        if (row.task, row.arm, row.role, row.metric) == (ENSEMBLE, "federated", "external", "auc_macro")
    ]
    trained = stored.provenance.tasks | {ENSEMBLE: TrainedTask(best=BEST, final="f" * 64, best_round=1, rounds=0)}
    write_results(changed, [*stored.rows, *later], stored.provenance.model_copy(update={"tasks": trained}))
    ensemble, linear = sections(changed)
    lines = ensemble["comparison"]["table"]["lines"]
    assert [line["name"] for line in lines] == ["Federated, chosen round", "Federated, last round"]
    assert lines[1]["rows"][0].value == 0.123
    assert linear["comparison"] is None
