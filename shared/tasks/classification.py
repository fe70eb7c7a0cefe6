"""What all classifiers share, whatever they read: their scores, a row of the per-case table, their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import RunConfig
from shared.inference import in_layout, place_model
from shared.metrics.metric import Metric
from shared.metrics.paired_numbers import NumberPair, agreement_metrics, error_metrics
from shared.metrics.scores import label_metrics, macro_auc
from shared.modalities.modality import PreparedCase
from shared.tasks.task import OWN, Evaluator, Measured, Row
from shared.types import BoolArray, FloatArray

Scores = Mapping[str, Mapping[str, float]]
"""Of one case, by reading (`OWN`, or a part such as a branch) and label: a probability, or a number in its unit."""
Truths = Callable[[CaseLabels, RunConfig], Mapping[str, float]]
"""What a case is evaluated by: the truth of each label that it has, 0 or 1, or a number."""
Predict = Callable[[nn.Module, Any, Any, RunConfig, BoolArray | None], Scores | None]
"""From model, prepared case, plan, configuration and another outline than the reference's to scores; as `Evaluator`."""


def score_evaluator(truths: Truths, predict: Predict) -> Evaluator:
    """The evaluator of a classifier, from a case's truths and what the network says of it."""

    def measure(prediction: Scores, case: PreparedCase, config: RunConfig, *, full: bool) -> Measured:
        del full
        known = truths(case.labels, config)
        return Measured({reading: _row(known, answers) for reading, answers in prediction.items()})

    return Evaluator(predict, _average, measure, _restrict)


def mean_scores(
    model: nn.Module, copies: FloatArray, config: RunConfig, scores: Callable[[list[Tensor]], list[Scores]]
) -> Scores:
    """Scores of one case, averaged over its copies, float32 `(copy, ...)` as the network reads them."""
    device = place_model(model, config)
    torch.set_num_threads(config.compute.threads)
    model.eval()
    with torch.inference_mode():
        answers = scores(model(in_layout(torch.from_numpy(copies).to(device), config)))
    return {
        reading: {label: float(np.mean([item[reading][label] for item in answers])) for label in labels}
        for reading, labels in answers[0].items()
    }


def score_metrics(labels: Sequence[Label], numbers: Sequence[NumberPair] = (), *, macro: bool = False) -> list[Metric]:
    """Metrics of a classifier that scores binary labels and predicts numbers, the headline first.

    `macro`: the labels exclude each other, so the mean of their AUCs comes first.
    """
    metrics = [macro_auc({label.name: label.title for label in labels})] if macro else []
    for label in labels:
        metrics += label_metrics(label.name, label.title, led=not macro)
    for pair in numbers:
        metrics += [*error_metrics(pair), *agreement_metrics(pair)]
    return metrics


def log_losses(metrics: Sequence[Metric], scales: Mapping[str, float] | None = None) -> list[tuple[Metric, float]]:
    """What chooses a classifier's round where no AUC exists: its log-losses, and errors of numbers.

    `scales` says, by name of such an error, how much of it weighs as much as one nat.
    """
    known = scales or {}
    chosen = [metric for metric in metrics if metric.name.startswith("log_loss_") or metric.name in known]
    return [(metric, known.get(metric.name, 1.0)) for metric in chosen]


def seen_by(truths: Truths) -> Callable[[CaseLabels, RunConfig], frozenset[str]]:
    """The labels of a case that a task is evaluated by."""
    return lambda labels, config: frozenset(truths(labels, config))


def used_by(truths: Truths) -> Callable[[CaseLabels, RunConfig], bool]:
    """Whether a case has one of the labels."""
    return lambda labels, config: bool(truths(labels, config))


def _row(truths: Mapping[str, float], answers: Mapping[str, float]) -> Row:
    row: Row = {}
    for label, truth in truths.items():
        row |= {f"truth_{label}": float(truth), f"score_{label}": answers.get(label)}
    return row


def _average(predictions: Sequence[Scores]) -> Scores:
    """The mean of each label's scores over those that answer it; of the own reading alone."""
    answers: dict[str, list[float]] = {}
    for prediction in predictions:
        for label, score in prediction[OWN].items():
            answers.setdefault(label, []).append(score)
    return {OWN: {label: float(np.mean(scores)) for label, scores in answers.items()}}


def _restrict(prediction: Any, labels: frozenset[str]) -> Scores:
    return {
        reading: {label: score for label, score in answers.items() if label in labels}
        for reading, answers in prediction.items()
    }
