"""Malignancy as a task: benign or malignant, each case by its weight."""

import math

import numpy as np
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.tasks import lesion_malignancy, task_named
from shared.tasks.lesion_malignancy import TASK
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, patch


@pytest.mark.parametrize("task", ["lesion-malignancy", "subtype-ensemble"])
def test_gains_of_the_scanner_change_no_answer_of_what_reads_relative_channels(task):
    torch.manual_seed(0)
    model = task_named(task).learner.build_model(CONFIG.for_task(task)).eval()
    for name, item in model.named_parameters():
        if "measured.linear" in name or ".head." in name:  # an ensemble's heads and all linear terms start at zero
            torch.nn.init.normal_(item)
    x = torch.from_numpy(np.stack([patch(0), patch(1)]))
    louder = x.clone()
    louder[:, 0] *= -7.0
    with torch.no_grad():
        before = model(x)
        assert all(torch.equal(here, there) for here, there in zip(model(louder), before, strict=True))
        louder[:, 1:-1] *= 1.7
        for here, there in zip(model(louder), before, strict=True):
            torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
        louder[:, 2:-1] += 0.5
        assert all((here - there).abs().max() > 0.01 for here, there in zip(model(louder), before, strict=True))


def test_a_benign_case_takes_part_and_one_without_the_label_does_not():
    assert lesion_malignancy.target(CaseLabels(malignant=False), CONFIG) == ((0.0,), "benign")
    assert lesion_malignancy.target(LUMINAL_A, CONFIG) == ((1.0,), "malignant")
    assert lesion_malignancy.target(CaseLabels(er=True), CONFIG) == ((), "")
    assert lesion_malignancy.truths(CaseLabels(malignant=False), CONFIG) == {"malignant": 0.0}
    assert TASK.counts([LUMINAL_A, CaseLabels(malignant=False), CaseLabels()], CONFIG) == {"": 2}


def test_the_loss_weighs_each_case():
    outputs, target = [torch.tensor([[0.0], [2.0]])], torch.tensor([[1.0, 0.5], [0.0, 1.5]])
    expected = (0.5 * math.log(2) + 1.5 * math.log(1 + math.exp(2))) / 2
    assert float(lesion_malignancy.loss(outputs, target)) == pytest.approx(expected)


def test_scores_are_probabilities():
    found = lesion_malignancy.scores([torch.tensor([[0.0], [math.log(3)]])])
    assert [item[""]["malignant"] for item in found] == pytest.approx([0.5, 0.75])
