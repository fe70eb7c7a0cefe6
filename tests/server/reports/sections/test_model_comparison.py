"""Rivals on the same cases: radiomics and the fusion beside the ensemble, with the numbers that are stored."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from server.evaluation.arm_comparison import compare_arms
from server.evaluation.late_fusion import TABLE, fuse_centre
from server.reports.metric_text import fixed
from server.reports.page import build_report
from server.reports.sections.model_comparison import classifier_sections
from server.run_folder.finished_run import read_run_folder
from server.run_folder.predictions import read_predictions, write_predictions
from server.run_folder.results import Provenance, TrainedTask, read_results, write_results
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.metrics.score_sums import SUBTYPES
from tests.server.reports.invented_classifiers import (
    BEST,
    END,
    ORACLE,
    SETTINGS,
    external,
    internal,
    section,
    subtypes,
    text_of,
)

ENSEMBLE, LINEAR, RIVAL = "subtype-ensemble", "subtype-radiomics", "c" * 64
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
    (run / "config.toml").write_text(CONFIG)
    (run / "cases.json").write_text(json.dumps({"centre-d": {"role": "external", "included": {"external": 60}}}))
    branches = [subtypes(f"federated:{name}", seed=2 + index) for index, name in enumerate(ALONE)]
    tables = {ENSEMBLE: pd.concat([subtypes(), *branches]), LINEAR: linear}
    hashes = {ENSEMBLE: BEST, LINEAR: RIVAL}
    rows = []
    for task, table in tables.items():
        write_predictions(run, task, table)
        rows += external(table, task, oracle=ORACLE)
        rows += [row.model_copy(update={"model_hash": hashes[task]}) for row in internal(task)]
    rows += fuse_centre(run, load_config(run / "config.toml"), hashes)
    trained = {task: TrainedTask(best=name, final=name, best_round=1, rounds=1) for task, name in hashes.items()}
    provenance = Provenance(
        name="rivals", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, tasks=trained, seconds=1.0,
        peak_memory_mb=1.0, phantom=True,
    )  # fmt: skip
    write_results(run, rows, provenance)
    return run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("rivals") / "run", subtypes(seed=7, model_hash=RIVAL))


@pytest.fixture(scope="module")
def ensemble(run_dir):
    return classifier_sections(read_run_folder(run_dir))[0]


@pytest.fixture(scope="module")
def page(run_dir):
    return build_report(run_dir).read_text()


@pytest.fixture
def changed(run_dir, tmp_path):
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_each_rival_has_a_line_with_its_stored_rows_and_n(run_dir, ensemble):
    stored = {(r.task, r.arm, r.metric): r for r in read_results(run_dir).rows if r.role == "external"}
    lines = {line["arm"]: line for line in ensemble["scores"]["lines"]}
    assert list(lines) == [
        "Ensemble",
        *(f"{name.capitalize()} alone" for name in ALONE),
        "Radiomics",
        "Fusion",
        "Oracle",
    ]
    for name, (task, arm) in {"Radiomics": (LINEAR, "federated"), "Fusion": (ENSEMBLE, "fusion")}.items():
        for cell, label in zip(lines[name]["cells"], (*SUBTYPES, "macro"), strict=True):
            row = stored[task, arm, f"auc_{label}"]
            assert (cell.row.value, cell.row.ci_low, cell.row.ci_high) == (row.value, row.ci_low, row.ci_high)
            assert cell.row.model_hash == {"Radiomics": RIVAL, "Fusion": f"{BEST}+{RIVAL}"}[name]
        assert lines[name]["n"] == 60


def test_tests_against_branches_radiomics_and_fusion_are_one_family_of_holm(run_dir, ensemble, page):
    tables = [read_predictions(run_dir, ENSEMBLE), read_predictions(run_dir, TABLE)]
    linear = read_predictions(run_dir, LINEAR).assign(arm="radiomics")
    found = compare_arms(pd.concat([*tables, linear]), "federated", SETTINGS, seed=3).set_index(["arm", "label"])
    assert len(found) == 30
    text, arms = text_of(page), [*(f"federated:{name}" for name in ALONE), "radiomics", "fusion"]
    for line, arm in zip(ensemble["tests"]["lines"], arms, strict=True):
        words = []
        for label in SUBTYPES:
            row = found.loc[(arm, label)]
            shown = {key: fixed(row[key], 3) for key in row.index if key != "n"}
            small = {key: "<0.001" if row[key] < 0.001 else shown[key] for key in ("p", "p_holm")}
            words.append("{difference} {low} to {high} p {p}, Holm {p_holm}".format(**shown | small))
        mean = "{:} {:} to {:}".format(*(fixed(x, 3) for x in found.loc[(arm, "macro"), ["difference", "low", "high"]]))
        assert f"{line['arm']} {' '.join(words)} {mean} 60 " in text
    assert (found["p_holm"].dropna() >= found["p"].dropna()).all()
    assert "over all 24 p of this table" in text
    assert "All judged the same cases." in text


def test_every_figure_shown_is_stored(run_dir, page):
    rows = read_results(run_dir).rows
    shown = set(re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)"', page))
    assert shown <= {(row.metric, str(row.value)) for row in rows}
    rivals = {(row.metric, str(row.value)) for row in rows if row.arm == "fusion" and row.metric == "auc_macro"}
    assert rivals <= shown
    bounds = set(re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', page))
    assert bounds <= {(str(row.ci_low), str(row.ci_high)) for row in rows}


def test_curves_and_the_lead_name_the_rivals(run_dir, ensemble, page):
    roc = ensemble["figures"][0]
    assert re.findall(r">(ensemble|radiomics|fusion)<", str(roc["svg"])) == ["ensemble", "radiomics", "fusion"]
    assert "Thin: the branches alone." in roc["caption"]
    found = {row.arm: row for row in read_results(run_dir).rows if (row.task, row.metric) == (ENSEMBLE, "auc_macro")}
    row = found["fusion"]
    lead = page.split('class="lead">')[1].split("</p>")[0]
    assert "which never trained, the ensemble's mean AUC over the four subtypes is 0." in lead.replace("&#39;", "'")
    assert "Its rivals on these cases: radiomics 0." in lead
    assert f"and fusion {row.value:.3f} ({row.ci_low:.3f} to {row.ci_high:.3f}, n = 60)." in lead
    assert lead.count("which never trained") == 1  # radiomics is told of once


def test_radiomics_own_section_has_only_what_the_ensembles_has_not(run_dir, page):
    ensemble, own = classifier_sections(read_run_folder(run_dir))
    assert own["scores"] is own["tests"] is None
    assert [item["caption"].split(",")[0] for item in own["figures"]] == ["Calibration"]
    assert len(own["operating"]) == len(SUBTYPES)
    assert [table["lines"][-1]["cells"][0].row.model_hash for table in own["internal"]] == [RIVAL, RIVAL]
    assert f'Its AUCs stand under <a href="#{ensemble["anchor"]}">Molecular subtype</a>' in page


def test_radiomics_that_was_read_end_to_end_keeps_its_own_table(tmp_path):
    linear = pd.concat([subtypes(seed=7, model_hash=RIVAL), subtypes(END, seed=8, model_hash=RIVAL)])
    ensemble, own = classifier_sections(read_run_folder(make_run(tmp_path / "run", linear)))
    assert [line["arm"] for line in own["scores"]["lines"]] == ["Reference outline", "End to end", "Oracle"]
    assert {line["arm"] for line in own["tests"]["lines"]} == {"End to end"}
    assert "End to end" not in {line["arm"] for line in ensemble["tests"]["lines"]}


def test_cases_that_only_one_judged_are_left_out_and_counted(tmp_path):
    linear = subtypes(seed=7, model_hash=RIVAL)
    linear = linear[~linear["case"].isin(linear["case"].unique()[:3])]
    run = make_run(tmp_path / "run", linear)
    part = classifier_sections(read_run_folder(run))[0]
    assert {line["arm"]: line["n"] for line in part["scores"]["lines"][-3:-1]} == {"Radiomics": 57, "Fusion": 57}
    tests = {(line["arm"], line["n"]) for line in part["tests"]["lines"]}
    assert {("Radiomics", "57"), ("Fusion", "57"), ("Volume alone", "60")} <= tests
    words = "Left out, as only one of the two judged them: 3 with radiomics and 3 with fusion."
    assert words in text_of(build_report(run).read_text())


def test_the_same_folder_gives_the_same_bytes(changed, page):
    assert build_report(changed).read_text() == page


def test_a_lone_ensemble_and_a_run_older_than_the_fusion_have_no_such_rival(changed):
    stored = read_results(changed)
    older = [row for row in stored.rows if row.arm != "fusion"]
    write_results(changed, older, stored.provenance)
    (changed / "predictions" / f"{TABLE}.parquet").unlink()
    runs = read_run_folder(changed)
    arms = [line["arm"] for line in classifier_sections(runs)[0]["scores"]["lines"]]
    assert arms[-2:] == ["Radiomics", "Oracle"]
    (alone,) = classifier_sections(runs[:1])
    assert alone["scores"]["lines"][0]["arm"] == "Reference outline"
    assert "rivals" not in alone["sentence"]
    (linear,) = classifier_sections(runs[1:])
    assert linear["scores"] is not None


def test_a_lost_table_of_the_fusion_is_named(changed):
    (changed / "predictions" / f"{TABLE}.parquet").unlink()
    with pytest.raises(RunError, match=f"{TABLE}.parquet"):
        build_report(changed)


def test_a_rival_without_rows_is_refused():
    rival = subtypes("r", seed=7, model_hash=RIVAL)
    with pytest.raises(RunError, match="no figures of r at 'centre-d'"):
        section(subtypes(), external(subtypes()), rivals={"r": rival})
