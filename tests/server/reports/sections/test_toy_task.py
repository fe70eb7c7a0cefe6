"""A task that the reports have never heard of, with a label and metrics of its own, gets its section as it declares."""

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shared.cohort.labels import Label
from shared.metrics.metric import Metric
from shared.tasks import TASKS, lesion_malignancy, task_named
from shared.tasks.classification import score_metrics
from tests.server.reports.invented_classifiers import cases, external, internal, render, section, text_of

GRADE = Label("grade", "High grade")
EFFORT = Metric(
    "effort", "s", "Reading time", "Mean over cases; an overlap of {lesion_overlap:g} plays no part.", ("effort",),
    sent="moments", shown=frozenset({"card", "internal"}), higher_is_better=False,
)  # fmt: skip
BOLD = Metric(
    "bold_grade", "1", "Bold answers, High grade", "Scores beyond 0.2 and 0.8.", ("truth_grade", "score_grade"),
    read=lambda pair: (np.abs(pair[:, 1:] - 0.5) > 0.3).astype(float), interval="wilson", labels=("grade",),
)  # fmt: skip


@pytest.fixture
def toy(monkeypatch):
    """Adds the task to the table, as its one line would."""
    task = dataclasses.replace(
        lesion_malignancy.TASK, name="toy", title="Grade", labels=(GRADE,), scored=(GRADE,),
        metrics=(*score_metrics((GRADE,)), EFFORT, BOLD),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "toy_task", SimpleNamespace(TASK=task))
    monkeypatch.setitem(TASKS, "toy", "toy_task")
    return task_named("toy")


def test_a_new_label_and_new_metrics_stand_on_the_page_under_their_own_titles(toy):
    truth, score = np.arange(40) % 2, np.linspace(0.05, 0.95, 40)
    table = cases({"truth_grade": truth, "score_grade": score, "effort": np.linspace(10, 20, 40)})
    rows = [*external(table, "toy"), *internal("toy", table)]
    own = {row.metric: row for row in rows if row.role == "external"}
    page = render(section(table, rows, "toy"))
    text = text_of(page)
    assert '<section id="toy"><h2>Grade at centre-d (phantoms)</h2>' in page
    assert f"Reading time {own['effort'].value:.3f} s (95% interval" in text
    assert f"The AUC is {own['auc_grade'].value:.3f}" in text
    assert "Reading time , s 15.000 1" in text
    assert "an overlap of 0.1 plays no part." in text
    assert "High grade 20 of 40" in text
    assert own["bold_grade"].value == np.mean(np.abs(score - 0.5) > 0.3)
    further = text.split("Further figures of each label")[1].split("What each figure means")[0]
    assert "Bold answers" in further
    assert f"{own['bold_grade'].value:.3f}" in further
    assert "Site AUC, High grade Reading time , s n centre-a" in text
    assert set(toy.kinds) == {"n", "grade", "log_loss_grade", "effort"}
