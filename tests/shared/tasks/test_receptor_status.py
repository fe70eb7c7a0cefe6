"""Receptor status as a task: three networks, the loss of those that are known, and who is counted."""

import math

import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.tasks.receptor_status import TASK, loss
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, NO_KI67, TRIPLE

VIEW = CONFIG.for_task("receptor-status")


def test_the_loss_is_the_sum_of_the_cross_entropies_of_what_is_known():
    logits = [torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]]), torch.tensor([[9.0], [9.0]])]
    nan = math.nan
    target = torch.tensor([[1.0, 0.0, nan, 1.0], [0.0, nan, nan, 3.0]])
    er = (math.log(2) + math.log(1 + math.exp(2))) / 2
    pr = math.log(1 + math.exp(1))
    assert float(loss(logits, target)) == pytest.approx(er + pr, rel=1e-5)  # the case's weight has no say


def test_every_parameter_answers_for_a_receptor():
    names = TASK.learner.build_model(VIEW).state_dict()
    assert {TASK.learner.owner(name) for name in names} == {"er", "pr", "her2"}


def test_a_case_takes_part_with_one_receptor():
    assert TASK.uses(CaseLabels(her2=False), VIEW)
    assert not TASK.uses(CaseLabels(ki67_percent=30.0), VIEW)
    counts = TASK.counts([LUMINAL_A, TRIPLE, NO_KI67, CaseLabels(er=True), CaseLabels()], VIEW)
    assert counts == {"": 4, "er": 4, "her2": 3, "pr": 3}


def test_its_headline_is_an_area_and_its_round_is_chosen_by_the_mean_of_them():
    assert TASK.headline.name == "auc_er"
    assert TASK.choice.title == "mean AUC of the labels"
    assert TASK.scored == TASK.labels
