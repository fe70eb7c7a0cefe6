"""A toy task with labels that the table does not know: high grade and size, by a linear model on lesion measures."""

import torch
import torch.nn.functional as F
from torch import nn

from shared.cohort.labels import Label
from shared.config.sections import PatchSection
from shared.metrics.paired_numbers import NumberPair
from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.radiomics import RadiomicsLinear
from shared.tasks import patches
from shared.tasks.choice import separates_best
from shared.tasks.classification import log_losses, score_evaluator, score_metrics, seen_by
from shared.tasks.patch_classifier import patch_predictor
from shared.tasks.task import OWN, Card, Learner, Task

GRADE, SIZE = Label("grade3", "Grade 3"), Label("size_mm", "Size", "number")
PAIR = NumberPair("{}_size", "size", "mm", ("score_size_mm", "truth_size_mm"))


class GradeModel(nn.Module):
    """A logit of the grade, and the size in cm."""

    def __init__(self, channels):
        super().__init__()
        self.linear = RadiomicsLinear(measure_count(channels), 2)

    def forward(self, x):
        return [self.linear(lesion_measures(x))[0]]


def truths(labels, _config):
    return {label.name: value for label in (GRADE, SIZE) if (value := labels.value(label.name)) is not None}


def target(labels, _config):
    grade = labels.value(GRADE.name)
    return ((), "") if grade is None else ((grade,), f"grade3 {grade:g}")


def loss(outputs, target):
    each = F.binary_cross_entropy_with_logits(outputs[0][:, 0], target[:, 0], reduction="none")
    return (each * target[:, 1]).mean()


def scores(outputs):
    return [
        {OWN: {GRADE.name: float(torch.sigmoid(row[0])), SIZE.name: 10.0 * abs(float(row[1]))}} for row in outputs[0]
    ]


METRICS = tuple(score_metrics((GRADE,), (PAIR,)))
TASK = Task(
    name="lesion-grade",
    title="Grade",
    settings=PatchSection,
    uses=lambda labels, _config: labels.value(GRADE.name) is not None,
    seen=seen_by(truths),
    learner=Learner(
        build_model=lambda config: GradeModel(config.preprocessing.channels),
        open=lambda cases, plan, config: patches.open_patches(cases, plan, config, target),
        sample=patches.sample,
        augment=patches.augment,
        loss=loss,
        loss_title="binary cross-entropy",
        shape=patches.shape,
    ),
    evaluator=score_evaluator(truths, patch_predictor(scores)),
    metrics=METRICS,
    choice=separates_best((GRADE.name,), log_losses(METRICS)),
    card=Card("a linear model", "a box around the lesion", "the probability of grade 3, and the size", "nobody"),
    labels=(GRADE, SIZE),
    scored=(GRADE,),
    pairs=(PAIR,),
    reads_outline=True,
)
