"""What all classifiers of lesion patches share: how a case is read, its row of the per-case table, their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import RunConfig
from shared.config.sections import ClassifierSection
from shared.errors import StudyError
from shared.inference import pick_device
from shared.metrics.metric import Metric
from shared.metrics.paired_numbers import NumberPair, agreement_metrics, error_metrics
from shared.metrics.scores import label_metrics, macro_auc
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import cut_patch, keep_patch, open_patch
from shared.modalities.mri.plan import MriPlan
from shared.tasks import patches
from shared.tasks.choice import separates_best
from shared.tasks.task import OWN, Card, Evaluator, Learner, Measured, Row, Task
from shared.types import BoolArray, FloatArray

Scores = Mapping[str, Mapping[str, float]]
"""Of one case, by reading (`OWN`, or a part such as a branch) and label: a probability, or a number in its unit."""
Truths = Callable[[CaseLabels, RunConfig], Mapping[str, float]]
"""What a case is evaluated by: the truth of each label that it has, 0 or 1, or a number."""

LESION_BOX = "a box around the lesion in DCE-MRI, cut from its outline"
"""What such a classifier reads, on its card."""
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (1,), (2,), (1, 3), (2, 3), (1, 2), (1, 2, 3))
"""Axes of a patch `(channel, z, y, x)` that are turned round."""


def patch_classifier(
    name: str,
    title: str,
    *,
    build_model: Callable[[RunConfig], nn.Module],
    target: patches.Target,
    loss: Callable[[list[Tensor], Tensor], Tensor],
    loss_title: str,
    truths: Truths,
    scores: Callable[[list[Tensor]], list[Scores]],
    scored: tuple[Label, ...],
    card: Card,
    labels: tuple[Label, ...] = (),
    pairs: tuple[NumberPair, ...] = (),
    exclusive: bool = False,
    owners: Mapping[str, str] = MappingProxyType({}),
    error_scales: Mapping[str, float] = MappingProxyType({}),
    settings: type[ClassifierSection] = ClassifierSection,
) -> Task:
    """A classifier of lesion patches: `Task` with what all of them share; parameters as there and in `Learner`.

    `target` is as `patches.open_patches` takes it, `truths` and `scores` as `score_evaluator`, `error_scales` as
    `log_losses`. `labels` are the columns that it learns from, where they are others than `scored`. `exclusive`: the
    labels exclude each other, so that the mean of their AUCs is the headline.
    """
    metrics = tuple(score_metrics(scored, pairs, macro=exclusive))
    return Task(
        name=name,
        title=title,
        settings=settings,
        uses=used_by(truths),
        seen=seen_by(truths),
        learner=Learner(
            build_model=build_model,
            open=lambda cases, plan, config: patches.open_patches(cases, plan, config, target),
            sample=patches.sample,
            augment=patches.augment,
            loss=loss,
            loss_title=loss_title,
            shape=patches.shape,
            owners=owners,
        ),
        evaluator=score_evaluator(truths, scores),
        metrics=metrics,
        choice=separates_best(tuple(label.name for label in scored), log_losses(metrics, error_scales)),
        card=card,
        labels=labels or scored,
        scored=scored,
        pairs=pairs,
        reads_outline=True,
    )


def score_evaluator(
    truths: Truths,
    scores: Callable[[list[Tensor]], list[Scores]],
    read: Callable[[FloatArray, RunConfig], FloatArray] = lambda patch, _config: patch,
) -> Evaluator:
    """The evaluator of a classifier, from a case's truths and the scores of each case of a batch of outputs.

    `read` makes the network's input of a patch `(channel + 1, z, y, x)`.
    """

    def predict(
        model: nn.Module, case: PreparedMri, plan: MriPlan, config: RunConfig, outline: BoolArray | None
    ) -> Scores | None:
        settings = config.section(ClassifierSection)
        if outline is None:
            root = case.region_folder.parent.parent
            patch = open_patch(keep_patch(root, case.region_folder.name, case.region(), plan, settings.patch))
        else:
            try:
                patch = cut_patch(case.region(), outline, plan, settings.patch)
            except StudyError:
                return None
        return read_patch(model, patch, config, scores, read)

    def measure(prediction: Scores, case: PreparedMri, config: RunConfig, *, full: bool) -> Measured:
        del full
        known = truths(case.labels, config)
        return Measured({reading: _row(known, answers) for reading, answers in prediction.items()})

    return Evaluator(predict, _average, measure, _restrict)


def read_patch(
    model: nn.Module,
    patch: FloatArray,
    config: RunConfig,
    scores: Callable[[list[Tensor]], list[Scores]],
    read: Callable[[FloatArray, RunConfig], FloatArray],
) -> Scores:
    """Scores of one lesion patch, averaged over its mirrored copies.

    Which of the mirror's eight images are read is the configuration's; anatomy differs from its mirror image, lesions
    do not.
    """
    device = pick_device(config)
    torch.set_num_threads(config.compute.threads)
    model.to(device).eval()
    images = [np.flip(patch, axes) for axes in _MIRRORS[: config.section(ClassifierSection).mirrored_copies]]
    batch = torch.from_numpy(np.stack([read(image, config) for image in images])).to(device)
    with torch.inference_mode():
        answers = scores(model(batch))
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
