"""A toy task with a new label and a new metric goes through statistics, page and card by its declaration alone."""

import html
import math
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from server.reports.figures import vector_files
from server.run_folder.study_tables import read_tables
from server.studies.run_study import make_report
from shared import tasks
from shared.cohort.labels import Label
from shared.errors import ConfigError
from shared.metrics.metric import Metric
from shared.metrics.scores import label_metrics
from shared.tasks.task import Card
from tests.server.reports.study import invented_study
from tests.server.reports.study.invented_study import CENTRES, make_study

NAME = "lesion-necrosis"
NECROSIS = Label("necrosis", "Necrosis")
NEAR = Metric(
    "near_necrosis", "%", "Near answers, necrosis", "Cases within 25 points of the truth, at {confidence:.0%}.",
    ("truth_necrosis", "score_necrosis"), read=lambda pair: 100.0 * (np.abs(pair[:, :1] - pair[:, 1:]) < 0.25),
    labels=("necrosis",), shown=frozenset({"compared", "pooled", "plotted"}),
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a study of the toy task, its report made; and its cohort."""
    toy = replace(
        tasks.task_named("lesion-malignancy"),
        name=NAME,
        title="Necrosis of the lesion",
        metrics=(*label_metrics("necrosis", "Necrosis"), NEAR),
        card=Card("a toy network", "nothing at all", "the probability of necrosis", "nobody, 2026"),
        labels=(NECROSIS,),
        scored=(NECROSIS,),
    )
    module = ModuleType("toy_task")
    module.TASK = toy
    invented = invented_study.invented_cohort
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "toy_task", module)
        patch.setitem(tasks.TASKS, NAME, "toy_task")
        patch.setattr(vector_files, "keep", lambda *_: None)
        patch.setattr(
            invented_study,
            "invented_cohort",
            lambda rng: (cohort := invented(rng)).assign(necrosis=(np.arange(len(cohort)) % 3 == 0).astype(float)),
        )
        folder = make_study(tmp_path_factory.mktemp("toy") / "study", (NAME,), labels=("necrosis",))
        make_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(report):
    return html.unescape((report / "report.html").read_text())


def test_a_new_metric_is_measured_compared_and_pooled_as_it_is_declared(report):
    tables = read_tables(report)
    cases = pd.read_parquet(report / "predictions" / f"{NAME}.parquet")
    own = cases[(cases["arm"] == "federated") & (cases["role"] == "external")]
    near = (own["truth_necrosis"] - own["score_necrosis"]).abs() < 0.25
    row = tables.summary.query("metric == 'near_necrosis' and arm == 'federated' and centre == 'all'").iloc[0]
    assert row["value"] == pytest.approx(100 * near.mean())
    assert (row["unit"], row["n"], row["seeds"]) == ("%", 80, 2)
    assert set(tables.comparisons["metric"]) == {"auc_necrosis", "near_necrosis"}
    assert set(tables.comparisons.loc[tables.comparisons["primary"], "metric"]) == {"auc_necrosis"}
    pooled = tables.meta.query("metric == 'near_necrosis' and quantity == 'federated'").iloc[0]
    assert (pooled["k"], math.isfinite(pooled["estimate"])) == (len(CENTRES), True)


def test_its_page_names_task_label_and_metric_as_they_are_declared(page):
    assert "<h3>Necrosis of the lesion: AUC, Necrosis, all held-out centres together</h3>" in page
    assert "<h2>Necrosis of the lesion: by centre (phantoms)</h2>" in page
    assert "Near answers, necrosis of the federated model at each held-out centre" in page
    assert "Difference in Near answers, necrosis, federated minus each other arm" in page
    assert "Necrosis, at the frozen thresholds" in page
    table_1 = page[page.index('id="table-1"') : page.index('id="forest"')]
    assert '<th scope="row">Necrosis</th>' in table_1
    assert page.count("mean AUC of the labels, validation") == 1


def test_its_model_card_says_what_it_declares(report):
    card = (report / "MODEL_CARD.md").read_text()
    assert f"### Necrosis of the lesion (`{NAME}`)" in card
    for line in (
        "| model | a toy network (nobody, 2026) |",
        "| reads | nothing at all |",
        "| answers | the probability of necrosis |",
        "| Near answers, necrosis | % | Cases within 25 points of the truth, at 95%. |",
        "**An outline of the lesion is needed** (Necrosis of the lesion)",
    ):
        assert line in card


def test_the_report_of_an_older_format_is_refused_in_one_line(tmp_path):
    folder = make_study(tmp_path / "study", ("receptor-status",), labels=("er",))
    (folder / "format.json").write_text('{"format": 1}')
    with pytest.raises(ConfigError, match=r"^study is of format 1, and this version reads format 2: [^\n]*$"):
        make_report(folder)
