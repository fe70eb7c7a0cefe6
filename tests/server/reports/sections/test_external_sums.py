"""The page of a run whose external centre judged at its own node: figures from sums, and nothing of a case."""

import json
import re
import shutil
from functools import reduce
from operator import add

import numpy as np
import pytest

from server.commands.display import show_results
from server.evaluation.metric_rows import internal_rows
from server.reports.page import build_report
from server.run_folder.results import TrainedTask, read_results, write_results
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.metrics.score_sums import ClassificationSums
from shared.metrics.tissues import TissueSums
from shared.runtime.terminal import console
from tests.server.reports.conftest import BEST, FINAL, sums
from tests.server.reports.invented_classifiers import RECEPTORS, internal, receptors, text_of
from tests.server.reports.invented_tissues import MODEL, add_tissues, judge, masks
from tests.server.reports.invented_tissues import TASK as TISSUES

LESIONS = "lesion-segmentation"


def classified(table):
    cases = [case[["label", "truth", "score"]].itertuples(index=False, name=None) for _, case in table.groupby("case")]
    return reduce(add, [ClassificationSums.of(case) for case in cases])


def at_node(run, *, cases=12, tissues=None, answers=None):
    """Turn a finished run of lesions and tissues into one whose centre judged at its node, with receptors too."""
    add_tissues(run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(f'"{TISSUES}"]', f'"{TISSUES}", "{RECEPTORS}"]'))
    settings, rng = load_config(config).evaluation, np.random.default_rng(4)
    outlined = TissueSums.of(judge((masks(27, 15, 2.0), masks(28, 14)))[0])
    outlined += TissueSums.of(judge((masks(29, 15), masks(28, 17)))[0])
    sent = [
        (LESIONS, BEST, sums(rng, cases, 0.8)),
        (LESIONS, FINAL, sums(rng, cases, 0.6)),
        (TISSUES, MODEL, outlined if tissues is None else tissues),
        (RECEPTORS, BEST, classified(receptors()) if answers is None else answers),
    ]
    old = read_results(run)
    rows = [row for row in old.rows if row.role != "external"] + internal(RECEPTORS, receptors())
    for task, model, found in sent:
        who = {"task": task, "arm": "federated", "seed": 3, "role": "external", "model_hash": model}
        rows += internal_rows({"centre-d": found}, settings, **who)
    tasks = old.provenance.tasks | {RECEPTORS: TrainedTask(best=BEST, final=BEST, best_round=2, rounds=4)}
    write_results(run, rows, old.provenance.model_copy(update={"tasks": tasks}))
    for name in ("predictions", "pictures"):
        shutil.rmtree(run / name)
    opened = {"centre": "centre-d", "model_hashes": [BEST, FINAL, MODEL], "at_node": True}
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
    cell = (
        r'data-metric="([\w.]+)" data-value="([^"]+)">[^<]*</td><td class="num" data-low="([^"]+)" data-high="([^"]+)"'
    )
    assert sorted(re.findall(cell, section(page))) == sorted(stored)
    text = text_of(section(page))
    assert "External centre: centre-d, judged at its own node (phantoms)" in text
    assert "Its cases stayed there" in text
    assert "Student's t" in text
    assert "classifiers were judged in the reference outline only" in text
    parts = ("Lesion segmentation 12 cases, read by the model of round 5", "Breast segmentation 2 cases, ")
    assert [text.count(part) for part in (*parts, "Receptors and Ki-67 60 cases")] == [1, 1, 1]
    assert "Failures , cases 0 \N{EN DASH} 12 Cases in which exactly one of outline and reference is empty." in text
    assert all(meaning for meaning in re.findall(r'<td class="meaning">(.*?)</td>', section(page)))


def test_the_lead_names_the_centre_n_value_and_interval_of_every_task(built):
    run, page = built
    lead = text_of(page.split('<p class="lead">')[1].split("</p>")[0])
    rows = {
        (row.task, row.metric): row
        for row in read_results(run).rows
        if row.role == "external" and row.model_hash != FINAL
    }
    dice, breast, er = rows[LESIONS, "dice"], rows[TISSUES, "dice_breast"], rows[RECEPTORS, "auc_er"]
    where = "of a centre that never trained (centre-d, at its own node)"
    assert (
        f"outlined lesions in 12 phantom cases {where} with a mean Dice of {dice.value:.3f} "
        f"(95% interval {dice.ci_low:.3f} to {dice.ci_high:.3f})"
    ) in lead
    assert f"In 2 phantom cases {where}, the breast was outlined with a mean Dice of {breast.value:.3f}" in lead
    assert "phantom cases of centre-d, which never trained and judged at its own node, the AUC is" in lead
    assert f"{er.value:.3f} (n = 60) for ER" in lead
    ki67 = rows[RECEPTORS, "mae_ki67"]
    bounds = f"({ki67.ci_low:.1f} to {ki67.ci_high:.1f}, n = 60) percentage points on average."
    assert f"Ki-67 is off by {ki67.value:.1f} {bounds}" in lead


def test_nothing_of_single_cases_is_shown_and_the_rest_of_the_page_stands(built):
    run, page = built
    assert 'id="pictures"' not in page
    assert "Worst cases" not in page
    assert "bootstrap over patients" not in page
    assert "centre-d-" not in page
    assert "internal figures flatter" not in page
    assert page.count('<a href="#external">') == 3  # the contents, tissues, receptors
    assert re.search(r"federated, chosen round.*federated, last round", text_of(page))
    for anchor in ("comparison", "tissues", f"classifier-{RECEPTORS}", "cases", "internal", "ledger"):
        assert page.count(f'id="{anchor}"') == page.count(f'href="#{anchor}"') == 1
    assert build_report(run).read_text() == page


def test_the_terminal_shows_what_the_node_sent(built):
    text = told(built[0])
    assert [text.count(f"{task} at centre-d") for task in (LESIONS, TISSUES, RECEPTORS)] == [1, 1, 1]
    er = next(row for row in read_results(built[0]).rows if (row.role, row.metric) == ("external", "auc_er"))
    assert re.search(rf"auc_er\W+{er.value:.3g}\W+60\b", text)


def test_a_centre_without_what_a_task_needs_is_said_to_have_judged_nothing(make_folder):
    run = at_node(make_folder(), cases=3, tissues=TissueSums(), answers=ClassificationSums())
    page = build_report(run).read_text()
    assert text_of(section(page)).count("No case of centre-d could be judged") == 2
    text = text_of(page)
    assert "Fewer than 10 cases judged: nothing should be ranked" in text
    assert "No case of centre-d has reference masks" in text
    assert "No case at centre-d has a label of this task" in text
    assert f"{LESIONS} at centre-d" in told(run)
    assert TISSUES not in told(run)


def test_results_that_lack_the_nodes_figures_are_refused(make_folder):
    run = at_node(make_folder())
    old = read_results(run)
    write_results(run, [row for row in old.rows if row.model_hash != MODEL], old.provenance)
    with pytest.raises(RunError, match="no figures of breast-segmentation's chosen model at 'centre-d'"):
        build_report(run)


def test_a_damaged_note_of_the_opening_is_named(make_folder):
    run = at_node(make_folder())
    (run / "external-opened.json").write_text('{"at_node": "perhaps"}')
    with pytest.raises(RunError, match=r"external-opened\.json"):
        build_report(run)


def test_a_lost_table_of_a_centre_that_was_judged_at_the_server_is_still_named(make_folder):
    run = make_folder()
    (run / "external-opened.json").write_text('{"centre": "centre-d", "model_hashes": [], "at_node": false}')
    (run / "predictions" / f"{LESIONS}.parquet").unlink()
    with pytest.raises(RunError, match=r"predictions/lesion-segmentation\.parquet"):
        build_report(run)
