"""`toy-er`: oestrogen receptor from two X-ray views by a logistic regression; a task on the toy modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import ER, CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import AugmentationConfig, TaskSection
from shared.tasks.choice import separates_best
from shared.tasks.classification import log_losses, score_metrics, seen_by, used_by
from shared.tasks.task import OWN, Card, Evaluator, Learner, Measured, Task
from shared.types import BoolArray, FloatArray
from tests.shared.modalities.toy_modality.toy_xray import NAME, ToyCase, ToyPlan, settings


class ToyModel(nn.Module):
    """One logit from all pixels; it starts from zero."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, views: Tensor) -> list[Tensor]:
        """Views `(n, view, y, x)`, whose mean over cases is 1, to logits `(n, 1)`."""
        return [self.linear(views.flatten(1) - 1.0)]


def truths(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """The receptor, where it is known."""
    del config
    value = labels.value(ER.name)
    return {} if value is None else {ER.name: value}


def shape(config: RunConfig) -> tuple[int, ...]:
    """Views and their sides."""
    own = settings(config)
    return own.channels, own.side, own.side


def sample(case: ToyCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The views, and 0 or 1."""
    del draws
    return case.image, np.array([truths(case.labels, config)[ER.name]], np.float32)


def augment(
    views: Tensor, target: Tensor, config: AugmentationConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Nothing."""
    del config, generator
    return views, target


def predict(
    model: nn.Module, case: ToyCase, plan: ToyPlan, config: RunConfig, outline: BoolArray | None
) -> dict[str, float]:
    """Probability of each label."""
    del plan, config, outline
    with torch.inference_mode():
        logit = model.eval()(torch.from_numpy(case.image)[None])[0]
    return {ER.name: float(torch.sigmoid(logit))}


def average(predictions: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean probability of those that answer."""
    known = [item[ER.name] for item in predictions if ER.name in item]
    return {ER.name: float(np.mean(known))} if known else {}


def measure(prediction: dict[str, float], case: ToyCase, config: RunConfig, *, full: bool) -> Measured:
    """Truth and score."""
    del full
    truth = truths(case.labels, config)
    return Measured({OWN: {"truth_er": truth.get(ER.name), "score_er": prediction.get(ER.name)}})


def restrict(prediction: Any, labels: frozenset[str]) -> dict[str, float]:
    """Only these labels."""
    return {label: score for label, score in prediction.items() if label in labels}


METRICS = tuple(score_metrics((ER,)))

TASK = Task(
    name="toy-er",
    title="Oestrogen receptor from X-rays",
    settings=TaskSection,
    uses=used_by(truths),
    seen=seen_by(truths),
    learner=Learner(
        build_model=lambda config: ToyModel(int(np.prod(shape(config)))),
        open=lambda cases, _plan, config: [case for case in cases if truths(case.labels, config)],
        sample=sample,
        augment=augment,
        loss=lambda outputs, target: F.binary_cross_entropy_with_logits(outputs[0], target),
        loss_title="binary cross-entropy",
        shape=shape,
    ),
    evaluator=Evaluator(predict, average, measure, restrict),
    metrics=METRICS,
    choice=separates_best((ER.name,), log_losses(METRICS)),
    card=Card(
        network="logistic regression",
        reads="two X-ray views of one breast",
        answers="the probability of a positive oestrogen receptor",
        citation="none: a toy",
    ),
    labels=(ER,),
    scored=(ER,),
    needs=lambda _config: frozenset(),
    modality=NAME,
)
