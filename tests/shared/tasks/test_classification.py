"""What all classifiers share: the mean over copies, rows, the mean of several models, metrics."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import parse_config
from shared.metrics.paired_numbers import NumberPair
from shared.tasks.classification import log_losses, mean_scores, score_evaluator, score_metrics, seen_by, used_by
from shared.tasks.task import OWN

CONFIG = parse_config({"name": "t", "tasks": ["lesion-malignancy"], "data": {"root": "d", "sites": ["a"]}}, "t")


@dataclass
class Case:
    labels: CaseLabels
    key: str = "d-p1-e-R"


class Mean(nn.Module):
    """Answers with the mean of what it reads."""

    def forward(self, x):
        return [x.flatten(1).mean(dim=1)[:, None]]


def as_scores(outputs):
    return [{OWN: {"malignant": float(value)}, "branch": {"malignant": 0.0}} for value in outputs[0][:, 0]]


def truths(labels, config):
    del config
    return {} if labels.malignant is None else {"malignant": float(labels.malignant)}


EVALUATOR = score_evaluator(truths, lambda *_: None)


@pytest.mark.parametrize("copies", [1, 3])
def test_scores_are_the_mean_over_the_copies(copies):
    read = np.random.default_rng(0).random((copies, 2, 4, 4)).astype(np.float32)
    told = mean_scores(Mean(), read, CONFIG, as_scores)
    assert told[OWN]["malignant"] == pytest.approx(float(read.mean()), rel=1e-5)
    assert set(told) == {OWN, "branch"}


def test_a_row_has_the_truths_that_are_known_and_a_label_that_is_not_answered_is_missing():
    case = Case(CaseLabels(malignant=False))
    measured = EVALUATOR.measure({OWN: {"malignant": 0.7}, "branch": {}}, case, CONFIG, full=True)
    assert measured.rows[OWN] == {"truth_malignant": 0.0, "score_malignant": 0.7}
    assert measured.rows["branch"] == {"truth_malignant": 0.0, "score_malignant": None}
    assert measured.masks is None
    blank = EVALUATOR.measure({OWN: {"malignant": 0.7}}, Case(CaseLabels()), CONFIG, full=True)
    assert blank.rows[OWN] == {}


def test_the_mean_of_models_is_over_those_that_answer_the_label():
    some = [{OWN: {"er": 0.6, "pr": 0.5}, "b": {"er": 1.0}}, {OWN: {"er": 0.2}}]
    assert EVALUATOR.average(some) == {OWN: {"er": pytest.approx(0.4), "pr": 0.5}}


def test_a_model_does_not_answer_for_a_label_it_never_saw():
    found = EVALUATOR.restrict({OWN: {"er": 0.6, "pr": 0.5}, "b": {"pr": 1.0}}, frozenset({"er"}))
    assert found == {OWN: {"er": 0.6}, "b": {}}


def test_labels_seen_and_cases_used_are_those_with_a_truth():
    assert seen_by(truths)(CaseLabels(malignant=True), CONFIG) == {"malignant"}
    assert used_by(truths)(CaseLabels(malignant=False), CONFIG)
    assert not used_by(truths)(CaseLabels(), CONFIG)


def test_metrics_in_order_and_the_losses_among_them():
    pair = NumberPair("{}_ki67", "Ki-67", "%", ("score_ki67_percent", "truth_ki67_percent"))
    metrics = score_metrics((Label("er", "ER"), Label("pr", "PR")), (pair,))
    assert metrics[0].name == "auc_er"
    assert score_metrics((Label("er", "ER"), Label("pr", "PR")), macro=True)[0].name == "auc_macro"
    chosen = {metric.name: scale for metric, scale in log_losses(metrics, {"mae_ki67": 10.0})}
    assert chosen == {"log_loss_er": 1.0, "log_loss_pr": 1.0, "mae_ki67": 10.0}
    assert [metric.name for metric, _ in log_losses(metrics)] == ["log_loss_er", "log_loss_pr"]


def test_scores_that_are_no_numbers_stay_so_and_are_not_taken_for_missing():
    found = mean_scores(Mean(), np.full((1, 4, 8), math.nan, np.float32), CONFIG, as_scores)
    row = EVALUATOR.measure(found, Case(CaseLabels(malignant=True)), CONFIG, full=True).rows[OWN]
    assert math.isnan(row["score_malignant"])
    assert torch.isfinite(torch.tensor(row["truth_malignant"]))
