"""`lesion-malignancy`: benign or malignant from DCE-MRI (Xue and Wang's review, 2021), by one 3D ResNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import MALIGNANT, CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import ClassifierSection
from shared.models.ensemble_resnet import Branch, build_resnet, relative_channels
from shared.models.lesion_measures import lesion_measures
from shared.reproducibility import derive_seed
from shared.tasks import patches
from shared.tasks.choice import separates_best
from shared.tasks.classification import Scores, log_losses, score_evaluator, score_metrics, seen_by, used_by
from shared.tasks.task import OWN, Card, Learner, Task

_WIDTHS = {"small": 12, "published": 64}
_DEPTHS = {"small": 10, "published": 18}


class MalignancyResNet(nn.Module):
    """A 3D ResNet beside a linear term in the lesion's measures; one logit.

    Parameters
    ----------
    channels_in
        Image channels of the patch.
    size
        "published": ResNet18 from 64 feature maps. "small": ten layers from 12.

    """

    def __init__(self, channels_in: int, size: str) -> None:
        super().__init__()
        network = build_resnet(3, _DEPTHS[size], _WIDTHS[size], channels_in, size=size)
        self.branch = Branch(network, channels_in, classes=1, dropout=0.0, measured=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Patches `(n, channels_in + 1, z, y, x)` to one tensor of logits `(n, 1)`."""
        return [self.branch(relative_channels(x), lesion_measures(x))]


def target(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    """1 for malignant; nothing where it is missing."""
    del config
    if labels.malignant is None:
        return (), ""
    return (float(labels.malignant),), "malignant" if labels.malignant else "benign"


def truths(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """Malignancy, where it is known."""
    del config
    return {} if labels.malignant is None else {"malignant": float(labels.malignant)}


def build_model(config: RunConfig) -> nn.Module:
    """The network of the configuration's size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "lesion-malignancy"))
        return MalignancyResNet(config.preprocessing.channels, config.section(ClassifierSection).size)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Binary cross-entropy, each case by its weight.

    Parameters
    ----------
    outputs
        One tensor of logits `(n, 1)`.
    target
        `(n, 2)`: 0 or 1, and the case's weight.

    """
    each = F.binary_cross_entropy_with_logits(outputs[0][:, 0], target[:, 0], reduction="none")
    return (each * target[:, 1]).mean()


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probability of malignancy."""
    return [{OWN: {"malignant": float(value)}} for value in torch.sigmoid(outputs[0].float())[:, 0]]


METRICS = tuple(score_metrics((MALIGNANT,)))

TASK = Task(
    name="lesion-malignancy",
    title="Malignancy",
    settings=ClassifierSection,
    uses=used_by(truths),
    seen=seen_by(truths),
    learner=Learner(
        build_model=build_model,
        open=lambda cases, plan, config: patches.open_patches(cases, plan, config, target),
        sample=patches.sample,
        augment=patches.augment,
        loss=loss,
        loss_title="binary cross-entropy",
        shape=patches.shape,
    ),
    evaluator=score_evaluator(truths, scores),
    metrics=METRICS,
    choice=separates_best((MALIGNANT.name,), log_losses(METRICS)),
    card=Card(
        network="3D ResNet",
        reads="a box around the lesion in DCE-MRI, cut from its outline",
        answers="the probability of malignancy",
        citation="Xue and Wang 2021",
    ),
    labels=(MALIGNANT,),
    scored=(MALIGNANT,),
    reads_outline=True,
)
