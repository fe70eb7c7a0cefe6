"""`subtype-ensemble`: molecular subtype from DCE-MRI by four ResNets (Wang et al., Radiol Imaging Cancer 2025;7(3))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import ER, HER2, KI67, PR, SUBTYPE, SUBTYPE_LABELS, SUBTYPES, CaseLabels, subtype_of
from shared.config.run_config import RunConfig
from shared.models.ensemble_resnet import BRANCHES, EnsembleResNet, SubtypeAloneSection, SubtypeSection
from shared.reproducibility import derive_seed
from shared.tasks import subtype_saliency
from shared.tasks.classification import Scores
from shared.tasks.explanation import Explanation
from shared.tasks.patch_classifier import LESION_BOX, network_alone, patch_classifier
from shared.tasks.task import OWN, Card

SUBTYPE_COLUMNS = (SUBTYPE, ER, PR, HER2, KI67)
"""The table's columns from which a subtype is read or derived."""


def subtype(labels: CaseLabels, config: RunConfig) -> str | None:
    """Subtype by the run's rule; None where the labels do not settle it."""
    if config.subtype_rule == "as-given":
        return labels.subtype
    return subtype_of(labels, "st-gallen-2023")


def known_subtype(labels: CaseLabels, config: RunConfig) -> str | None:
    """Subtype by the run's rule, where it is one of the four."""
    own = subtype(labels, config)
    return own if own in SUBTYPES else None


def target(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    """Probabilities that the network is to give, smoothed as configured; nothing where the subtype is missing."""
    own = subtype(labels, config)
    if own not in SUBTYPES:
        return (), ""
    spread = config.section(SubtypeSection).label_smoothing
    return tuple((1 - spread) * (name == own) + spread / len(SUBTYPES) for name in SUBTYPES), own


def truths(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """1 for the case's subtype, 0 for the other three."""
    own = subtype(labels, config)
    return {name: float(name == own) for name in SUBTYPES} if own in SUBTYPES else {}


def build_model(config: RunConfig) -> nn.Module:
    """The ensemble of the configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "subtype-ensemble"))
        return EnsembleResNet(config.preprocessing.channels, config.section(SubtypeSection))


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Sum of the branches' weighted cross-entropies: each branch learns as if it were alone.

    One tensor of logits `(n, 4)` a branch; `target` is `(n, 5)`: probability of each subtype, weight of the case.
    """
    classes, weight = target[:, :-1], target[:, -1]
    return torch.stack(
        [(F.cross_entropy(logits, classes, reduction="none") * weight).mean() for logits in outputs]
    ).sum()


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probabilities: the branches' mean, and each branch's own."""
    single = torch.stack([logits.float().softmax(dim=1) for logits in outputs])
    by_reader = {OWN: single.mean(dim=0)} | dict(zip(BRANCHES, single, strict=True))
    return [
        {name: dict(zip(SUBTYPES, table[row].tolist(), strict=True)) for name, table in by_reader.items()}
        for row in range(single.shape[1])
    ]


TASK = replace(
    patch_classifier(
        "subtype-ensemble",
        "Molecular subtype",
        settings=SubtypeSection,
        build_model=build_model,
        target=target,
        loss=loss,
        loss_title="cross-entropy, summed over the branches",
        truths=truths,
        scores=scores,
        scored=SUBTYPE_LABELS,
        labels=SUBTYPE_COLUMNS,
        exclusive=True,
        card=Card(
            "three 2D ResNets and one 3D ResNet",
            LESION_BOX,
            "probabilities of four molecular subtypes",
            "Wang et al., Radiology: Imaging Cancer 2025;7(3)",
        ),
    ),
    explained=Explanation(
        "saliency",
        "saliency",
        known_subtype,
        subtype_saliency.figures,
        subtype_saliency.picture,
        class_column="subtype",
    ),
)
TASKS = {task.name: task for task in (TASK, network_alone(TASK, SubtypeAloneSection))}
