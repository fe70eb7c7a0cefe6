"""`lesion-malignancy`: benign or malignant from DCE-MRI (Xue and Wang's review, 2021), by one 3D ResNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import MALIGNANT, CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import MeasuredSection
from shared.models.ensemble_resnet import Branch, build_resnet, relative_channels
from shared.models.lesion_measures import lesion_measures
from shared.reproducibility import derive_seed
from shared.tasks.classification import Scores
from shared.tasks.patch_classifier import LESION_BOX, network_alone, patch_classifier
from shared.tasks.task import OWN, Card

_WIDTHS = {"small": 12, "published": 64}
_DEPTHS = {"small": 10, "published": 18}


class MalignancyResNet(nn.Module):
    """A 3D ResNet, if `measured` beside a linear term in the lesion's measures; one logit.

    "published" is a ResNet18 from 64 feature maps, "small" has ten layers from 12.
    """

    def __init__(self, channels_in: int, size: str, *, measured: bool = True) -> None:
        super().__init__()
        network = build_resnet(3, _DEPTHS[size], _WIDTHS[size], channels_in, size=size)
        self.branch = Branch(network, channels_in, classes=1, dropout=0.0, measured=measured)

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
        settings = config.section(MeasuredSection)
        return MalignancyResNet(config.preprocessing.channels, settings.size, measured=settings.measured)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Binary cross-entropy of one tensor of logits `(n, 1)`, each case by its weight.

    `target` is `(n, 2)`: 0 or 1, and the case's weight.
    """
    each = F.binary_cross_entropy_with_logits(outputs[0][:, 0], target[:, 0], reduction="none")
    return (each * target[:, 1]).mean()


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probability of malignancy."""
    return [{OWN: {"malignant": float(value)}} for value in torch.sigmoid(outputs[0].float())[:, 0]]


TASK = patch_classifier(
    "lesion-malignancy",
    "Malignancy",
    settings=MeasuredSection,
    build_model=build_model,
    target=target,
    loss=loss,
    loss_title="binary cross-entropy",
    truths=truths,
    scores=scores,
    scored=(MALIGNANT,),
    card=Card("3D ResNet", LESION_BOX, "the probability of malignancy", "Xue and Wang 2021"),
)
TASKS = {task.name: task for task in (TASK, network_alone(TASK))}
