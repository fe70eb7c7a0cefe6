"""Figures from sums: the page of a centre that evaluated at its own node, nothing of a case, and training sites."""

import json
import re
import shutil

import numpy as np
import pytest

from server.commands.display import show_results
from server.evaluation.metric_rows import sum_rows
from server.reports.page import build_report
from server.reports.sections.site_sums import external_sums, training_sites
from server.reports.templates import environment
from server.run_folder.results import TrainedTask, read_results, write_results
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.metrics.sums import Sums
from shared.runtime.terminal import console
from shared.tasks import task_named
from tests.server.reports.conftest import BEST, FINAL, sums
from tests.server.reports.invented_classifiers import RECEPTORS, finished, internal, receptors, summed, text_of
from tests.server.reports.invented_tissues import MODEL, add_tissues, masks, measured
from tests.server.reports.invented_tissues import TASK as TISSUES

LESIONS = "lesion-segmentation"


def at_node(run, *, cases=12, tissues=None, answers=None):
    """Turn a finished run of lesions and tissues into one whose centre evaluated at its node, with receptors too."""
    add_tissues(run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(f'"{TISSUES}"]', f'"{TISSUES}", "{RECEPTORS}"]'))
    settings, rng = load_config(config).evaluation, np.random.default_rng(4)
    pairs = ((masks(27, 15, 2.0), masks(28, 14)), (masks(29, 15), masks(28, 17)))
    outlined = sum((task_named(TISSUES).sums(measured(pair)) for pair in pairs), Sums())
    sent = [
        (LESIONS, BEST, sums(rng, cases, 0.8)),
        (LESIONS, FINAL, sums(rng, cases, 0.6)),
        (TISSUES, MODEL, outlined if tissues is None else tissues),
        (RECEPTORS, BEST, summed(RECEPTORS, receptors()) if answers is None else answers),
    ]
    old = read_results(run)
    rows = [row for row in old.rows if row.role != "external"] + internal(RECEPTORS, receptors())
    for task, model, sent_sums in sent:
        who = {"seed": 3, "role": "external", "model_hash": model}
        rows += sum_rows({"centre-d": sent_sums}, task_named(task), settings, **who)
    tasks = old.provenance.tasks | {RECEPTORS: TrainedTask(best=BEST, final=BEST, best_round=2, rounds=4)}
    write_results(run, rows, old.provenance.model_copy(update={"tasks": tasks}))
    shutil.copytree(run / "journal" / LESIONS, run / "journal" / RECEPTORS)
    for name in ("predictions", "pictures"):
        shutil.rmtree(run / name)
    opened = {"centre": "centre-d", "model_hashes": [BEST, FINAL, MODEL], "at_node": True, "at": "2026-01-02T03:04:05Z"}
    (run / "external-opened.json").write_text(json.dumps(opened))
    return run


@pytest.fixture(scope="module")
def built(templates, tmp_path_factory):
    run = at_node(shutil.copytree(templates["alone"], tmp_path_factory.mktemp("node") / "quick-0"))
    return run, build_report(run).read_text()


def told(run):
    with console.capture() as shown:
        show_results(read_results(run))
    return " ".join(shown.get().split())


def section(page):
    return page.split('<section id="external">')[1].split("</section>")[0]


def test_the_section_shows_each_figure_that_the_node_sent_and_no_other(built):
    run, page = built
    best = {task: item.best for task, item in read_results(run).provenance.tasks.items()}
    stored = [
        (row.metric, str(row.value), str(row.ci_low), str(row.ci_high))
        for row in read_results(run).rows
        if row.role == "external" and row.model_hash == best[row.task]
    ]
    assert len(stored) > 20
    shown = re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)"', section(page))
    assert sorted(shown) == sorted(row[:2] for row in stored if row[1] != "None")
    bounds = re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', section(page))
    assert sorted(bounds) == sorted(row[2:] for row in stored if row[2] != "None")
    text = text_of(section(page))
    assert "External centre: centre-d, evaluated at its own node (phantoms)" in text
    assert "Its cases stayed there" in text
    assert "Student's t" in text
    assert "what reads an outline was read in the reference outline only" in text
    parts = ("Lesion outlines 12 cases, read by the model of round 5", "Breast and fibroglandular tissue 2 cases, ")
    assert [text.count(part) for part in (*parts, "Receptors and Ki-67 60 cases")] == [1, 1, 1]
    assert "Failures , cases 0 \N{EN DASH} 12 Cases in which exactly one of outline and reference is empty." in text
    assert all(meaning for meaning in re.findall(r'<td class="meaning">(.*?)</td>', section(page)))


def test_the_lead_names_the_centre_n_value_and_interval_of_every_task(built):
    run, page = built
    lead = text_of(page.split('class="lead">')[1].split("</div>")[0])
    rows = {
        (row.task, row.metric): row
        for row in read_results(run).rows
        if row.role == "external" and row.model_hash != FINAL
    }
    dice, breast, er = rows[LESIONS, "dice"], rows[TISSUES, "dice_breast"], rows[RECEPTORS, "auc_er"]
    where = "centre-d, which never trained, evaluated at its own node"
    assert (
        f"On 12 phantom cases of {where}: Dice {dice.value:.3f} "
        f"(95% interval {dice.ci_low:.3f} to {dice.ci_high:.3f}, n = 12)"
    ) in lead
    assert f"On 2 phantom cases of {where}: Dice, fibroglandular tissue" in lead
    assert f"Dice, breast {breast.value:.3f}" in lead
    assert f"On 60 phantom cases of {where}, the AUC is" in lead
    assert f"{er.value:.3f} (n = 60) for ER" in lead
    ki67 = rows[RECEPTORS, "mae_ki67"]
    bounds = f"({ki67.ci_low:.1f} to {ki67.ci_high:.1f}, n = 60)."
    assert f"Ki-67 is off by {ki67.value:.1f} percentage points on average {bounds}" in lead


@pytest.mark.parametrize("tasks", [("lesion-malignancy", "mammography-malignancy"), ("lesion-malignancy", RECEPTORS)])
def test_answers_of_two_modalities_that_were_not_fused_at_the_node_are_said_so(tasks):
    runs = [finished(None, [], task, at_node=True) for task in tasks]
    told = external_sums(runs, [None, None])
    page = environment().get_template("external_sums.html").render(at_node=told, phantom=True, confidence="95%")
    assert ("two modalities' answers for one breast were not fused" in text_of(page)) == ("mammography" in tasks[1])


def test_nothing_of_single_cases_is_shown_and_the_rest_of_the_page_stands(built):
    run, page = built
    assert "Best, median and worst" not in page
    assert "Worst cases" not in page
    assert "bootstrap over patients" not in page
    assert "centre-d-" not in page
    assert "internal figures flatter" not in page
    assert page.count('<a href="#external">') == 4  # the contents and every task
    assert re.search(r"Federated, chosen round.*Federated, last round", text_of(page))
    for anchor in (LESIONS, TISSUES, RECEPTORS, "cases", "ledger"):
        assert page.count(f'id="{anchor}"') == page.split("<nav")[1].count(f'href="#{anchor}"') == 1
    assert build_report(run).read_text() == page


def test_the_terminal_shows_what_the_node_sent(built):
    text = told(built[0])
    assert [text.count(f"{task} at centre-d") for task in (LESIONS, TISSUES, RECEPTORS)] == [1, 1, 1]
    er = next(row for row in read_results(built[0]).rows if (row.role, row.metric) == ("external", "auc_er"))
    assert re.search(rf"auc_er\W+{er.value:.3g}\W+60\b", text)


def test_a_centre_without_what_a_task_needs_is_said_to_have_evaluated_nothing(make_folder):
    run = at_node(make_folder(), cases=3, tissues=Sums(), answers=Sums())
    page = build_report(run).read_text()
    assert text_of(section(page)).count("No case of centre-d could be evaluated") == 2
    text = text_of(page)
    assert "Fewer than 10 cases evaluated: nothing should be ranked" in text
    assert text.count("No case of centre-d has the reference or a label that this task needs") == 4  # lead, sections
    assert f"{LESIONS} at centre-d" in told(run)
    assert TISSUES not in told(run)


def test_results_that_lack_the_nodes_figures_are_refused(make_folder):
    run = at_node(make_folder())
    old = read_results(run)
    write_results(run, [row for row in old.rows if row.model_hash != BEST], old.provenance)
    with pytest.raises(RunError, match=f"no external figures of the chosen model at 'centre-d' for {LESIONS}"):
        build_report(run)


def test_a_damaged_note_of_the_opening_is_named(make_folder):
    run = at_node(make_folder())
    (run / "external-opened.json").write_text('{"at_node": "perhaps"}')
    with pytest.raises(RunError, match=r"external-opened\.json"):
        build_report(run)


def test_a_lost_table_of_a_centre_that_was_evaluated_at_the_server_is_still_named(make_folder):
    run = make_folder()
    (run / "external-opened.json").write_text(
        '{"centre": "centre-d", "model_hashes": [], "at_node": false, "at": "2026-01-02T03:04:05Z"}'
    )
    (run / "predictions" / f"{LESIONS}.parquet").unlink()
    with pytest.raises(RunError, match=r"predictions/lesion-segmentation\.parquet"):
        build_report(run)


def test_sites_stand_with_the_rows_they_sent_and_their_total():
    rows = internal(RECEPTORS, receptors(seed=4))
    other = [row.model_copy(update={"model_hash": "f" * 64, "value": 0.123}) for row in rows]
    test, validation = training_sites(finished(None, [*other, *rows], RECEPTORS, centre=None))
    assert test["caption"].startswith("Test cases, never used")
    assert validation["caption"] == "Validation cases, which chose the round and the thresholds: optimistic."
    assert [line["name"] for line in test["table"]["lines"]] == ["centre-a", "centre-b", "centre-c", "all"]
    assert [column.metric for column in test["table"]["columns"]] == [
        "auc_er", "auc_pr", "auc_her2", "mae_ki67", "bias_ki67",
    ]  # fmt: skip
    stored = {(row.centre, row.metric): row for row in rows if row.role == "test"}
    assert test["table"]["lines"][3]["rows"][3] == stored["all", "mae_ki67"]
    assert test["table"]["lines"][3]["n"] == 60


def test_a_role_that_no_site_answered_has_no_table():
    rows = [row for row in internal() if row.role == "validation"]
    assert len(training_sites(finished(None, rows, centre=None))) == 1
