"""What the two receptor tasks share: targets, truths, scores, and what a missing label may move."""

import math

import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.tasks import receptors, task_named
from shared.training import train_round
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, NO_KI67, TRIPLE, opened


@pytest.mark.parametrize("task", ["receptor-status", "receptor-ki67-multitask"])
@pytest.mark.parametrize("missing", ["pr", "her2", "ki67_percent"])
def test_training_without_a_label_never_moves_what_answers_for_it(task, missing):
    if task == "receptor-status" and missing == "ki67_percent":
        pytest.skip("this task has no Ki-67")
    view, used = CONFIG.for_task(task), task_named(task)
    labels = [
        CaseLabels(**{name: getattr(item, name) for name in ("er", "pr", "her2", "ki67_percent")} | {missing: None})
        for item in (LUMINAL_A, TRIPLE)
    ]
    model = used.learner.build_model(view)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_round(model, opened(task, labels), view, round_number=1, site="a")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    owned = {name for name in before if used.learner.owner(name) == missing}
    assert owned
    assert not moved & owned
    assert any(used.learner.owner(name) == "er" for name in moved)


@pytest.mark.parametrize("task", ["receptor-status", "receptor-ki67-multitask"])
def test_every_label_owns_its_head_and_with_a_label_it_moves(task):
    view, used = CONFIG.for_task(task), task_named(task)
    model = used.learner.build_model(view)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_round(model, opened(task, [LUMINAL_A, TRIPLE]), view, round_number=1, site="a")
    for label in set(used.learner.owners.values()):
        owned = [name for name in before if used.learner.owner(name) == label and "weight" in name]
        assert any(not torch.equal(model.state_dict()[name], before[name]) for name in owned), label


def test_receptor_networks_share_nothing_and_the_multitask_network_shares_its_body():
    status, spatial = task_named("receptor-status"), task_named("receptor-ki67-multitask")
    names = status.learner.build_model(CONFIG.for_task("receptor-status")).state_dict()
    assert {status.learner.owner(name) for name in names} == {"er", "pr", "her2"}
    names = spatial.learner.build_model(CONFIG.for_task("receptor-ki67-multitask")).state_dict()
    assert {spatial.learner.owner(name) for name in names} == {"", "er", "pr", "her2", "ki67_percent"}


def test_ki67_is_answered_in_percent_within_its_range():
    outputs = [torch.zeros(2, 1)] * 3 + [torch.tensor([[3.5], [-1.0]])]
    assert [item[""]["ki67_percent"] for item in receptors.scores(outputs)] == [35.0, 0.0]
    assert receptors.scores(outputs)[0][""]["er"] == 0.5


def test_targets_have_nan_where_a_label_is_missing_and_leave_out_a_case_without_any():
    assert receptors.target(LUMINAL_A, CONFIG) == ((1.0, 1.0, 0.0), "er True, her2 False")
    values, known = receptors.target_with_ki67(NO_KI67, CONFIG)
    assert values[:3] == (1.0, 1.0, 0.0)
    assert math.isnan(values[3])
    assert known == "er True, her2 False"
    assert receptors.target_with_ki67(LUMINAL_A, CONFIG)[0][3] == 0.8  # in units of 10 points
    alone, _ = receptors.target_with_ki67(CaseLabels(ki67_percent=30.0), CONFIG)
    assert all(math.isnan(value) for value in alone[:3])
    assert alone[3] == 3.0
    assert receptors.target(CaseLabels(ki67_percent=30.0), CONFIG) == ((), "")
    assert receptors.target_with_ki67(CaseLabels(), CONFIG) == ((), "")


def test_truths_are_the_labels_that_are_known():
    assert receptors.truths(CaseLabels(er=False, her2=True, ki67_percent=5.0), CONFIG) == {"er": 0.0, "her2": 1.0}
    assert receptors.truths_with_ki67(CaseLabels(er=False, ki67_percent=5.0), CONFIG) == {
        "er": 0.0,
        "ki67_percent": 5.0,
    }
    assert receptors.truths_with_ki67(CaseLabels(malignant=True), CONFIG) == {}
