"""The multi-task network as a task: its section, its log-variances, its round without any AUC."""

import pytest

from shared.cohort.labels import CaseLabels
from shared.metrics.sums import Histogram, Moments, Sums
from shared.tasks import task_named
from shared.tasks.receptor_ki67_multitask import TASK, MultitaskSection
from shared.training import train_round
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, TRIPLE, changed, opened


def test_uncertainty_weights_belong_to_their_marker_and_are_trained():
    view = changed("receptor-ki67-multitask", uncertainty_weights=True)
    task = task_named("receptor-ki67-multitask")
    model = task.learner.build_model(view)
    names = [name for name in model.state_dict() if "log_variance" in name]
    assert {task.learner.owner(name) for name in names} == {"er", "pr", "her2", "ki67_percent"}
    train_round(model, opened("receptor-ki67-multitask", [LUMINAL_A, TRIPLE]), view, round_number=1, site="a")
    assert all(float(model.state_dict()[name].abs()) > 0 for name in names)


def test_its_own_key_stands_in_its_own_section():
    assert not CONFIG.for_task("receptor-ki67-multitask").section(MultitaskSection).uncertainty_weights
    assert changed("receptor-ki67-multitask", uncertainty_weights=True).section(MultitaskSection).uncertainty_weights


def sums(error, loss=None):
    parts = {"n": 4, "mae_ki67": Moments(4, 4 * error, 4 * error**2)}
    if loss is not None:
        parts |= {"er": sum([Histogram.of(1, 0.7)] * 4, Histogram()), "log_loss_er": Moments(4, 4 * loss, 4 * loss**2)}
    return Sums(parts)


def test_without_any_auc_ten_points_of_ki67_weigh_as_much_as_a_nat():
    # Of Ki-67 alone the smallest error decides; beside a receptor of one class the mean of both losses.
    assert TASK.choice.best({1: sums(15.0), 2: sums(9.0), 3: sums(12.0)}) == 2
    assert TASK.choice.fallback(sums(12.0, 0.4)) == pytest.approx(-(1.2 + 0.4) / 2)
    assert TASK.choice.best({1: sums(12.0, 0.4), 2: sums(9.0, 0.8), 3: sums(11.0, 0.4)}) == 3


def test_ki67_alone_is_a_label():
    assert TASK.uses(CaseLabels(ki67_percent=5.0), CONFIG)
    assert not TASK.uses(CaseLabels(malignant=True), CONFIG)
    assert [label.name for label in TASK.labels] == ["er", "pr", "her2", "ki67_percent"]
    assert {metric.name for metric in TASK.metrics} >= {"auc_er", "mae_ki67", "mae_ki67_of_mean", "icc_a1_ki67"}
