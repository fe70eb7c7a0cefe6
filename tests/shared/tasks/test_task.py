"""What a task declares: counts of cases and labels, sums of a row, and sums of a site that are refused."""

import pytest

from shared.cohort.labels import CaseLabels
from shared.errors import ConfigError
from shared.metrics.sums import Histogram, Moments
from shared.tasks import TASKS, task_named
from shared.tasks.task import Learner
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, NO_KI67, TRIPLE


def test_cases_are_counted_by_task_and_label():
    labels = [LUMINAL_A, TRIPLE, NO_KI67, CaseLabels()]
    spatial, subtype = task_named("receptor-ki67-multitask"), task_named("subtype-ensemble")
    assert spatial.counts(labels, CONFIG) == {"": 3, "er": 3, "pr": 3, "her2": 3, "ki67_percent": 2}
    # St. Gallen cannot tell luminal A from B without Ki-67.
    assert subtype.counts(labels, CONFIG) == {"": 2}
    benign = CaseLabels(malignant=False)
    assert task_named("lesion-segmentation").counts([*labels, benign], CONFIG) == {"": 4}
    assert task_named("lesion-malignancy").counts([*labels, benign], CONFIG) == {"": 4}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_what_the_system_asks_of_it(name):
    task = task_named(name)
    assert task.name == name
    assert task.card.network
    assert task.card.citation
    assert task.metric(task.headline.name) is task.metrics[0]
    assert task.metric("none") is None
    columns = {column for metric in task.metrics for column in metric.columns}
    if task.pictures is not None:
        assert task.pictures.by in columns
    for structure in task.structures:
        assert {f"{part}{structure.suffix}" for part in ("dice", "nsd", "hd95_mm")} <= columns
    for label in task.scored:
        assert {f"{part}_{label.name}" for part in ("truth", "score")} <= columns
        assert label.name in task.kinds  # the histogram that its threshold is read from
    for pair in task.pairs:
        assert set(pair.columns) <= columns
    assert task.rival_of in {"", *TASKS}
    assert set(task.learner.owners.values()) <= {label.name for label in task.labels}


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="no task 'subtype'; there are lesion-segmentation"):
        task_named("subtype")


@pytest.mark.parametrize("module", ["shared.tasks.nowhere", "shared.tasks.choice"])
def test_a_line_of_the_table_that_leads_to_no_task_is_told_with_its_place(monkeypatch, module):
    monkeypatch.setitem(TASKS, "mine", module)
    with pytest.raises(ConfigError, match=f"task 'mine': no TASK is in {module}, which TASKS in shared/tasks"):
        task_named("mine")


def test_a_library_that_is_missing_is_told_as_such(monkeypatch, tmp_path):
    (tmp_path / "needs_one.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS, "mine", "needs_one")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        task_named("mine")


def test_a_parameter_belongs_to_the_label_of_its_prefix():
    learner = Learner(*[None] * 5, "", None, {"heads.er.": "er", "heads.pr.": "pr"})
    assert [learner.owner(name) for name in ("heads.er.weight", "heads.pr.bias", "heads.era", "body.heads.er.w")] == [
        "er", "pr", "", "",
    ]  # fmt: skip


def test_the_sums_of_a_row_hold_the_parts_that_it_has():
    task = task_named("receptor-status")
    sums = task.sums({"truth_er": 1.0, "score_er": 0.62, "truth_pr": 0.0, "score_pr": None})
    assert (sums.n, sums.histogram("er"), sums.histogram("pr")) == (1, Histogram.of(1, 0.62), Histogram())
    assert (sums.moments("log_loss_er").n, sums.moments("log_loss_pr")) == (1, Moments())


def test_with_a_hidden_part_goes_what_is_made_of_the_same_columns_and_nothing_else():
    subtype = task_named("subtype-ensemble")
    assert subtype.parts_beside(["her2_enriched.positives"]) == {"her2_enriched", "log_loss_her2_enriched"}
    assert subtype.parts_beside(["log_loss_luminal_a"]) == {"luminal_a", "log_loss_luminal_a"}
    assert task_named("breast-segmentation").parts_beside(["mae_density"]) == {"mae_density", "bias_density"}
    assert task_named("lesion-segmentation").parts_beside(["dice"]) == {"dice"}
    assert subtype.parts_beside([]) == set()
