"""`receptor-status`: ER, PR and HER2 by one 3D network each (Shiri et al., Mol Imaging Biol 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.config.run_config import RunConfig
from shared.config.sections import MeasuredSection
from shared.models.radiomics import MeasuredHeads
from shared.models.receptor_resnet import ReceptorResNets
from shared.reproducibility import derive_seed
from shared.tasks import receptors
from shared.tasks.masked_losses import masked_binary
from shared.tasks.patch_classifier import LESION_BOX, network_alone, patch_classifier
from shared.tasks.task import Card


def build_model(config: RunConfig) -> nn.Module:
    """Three networks of the configuration's size, each as configured with a linear term in the lesion's measures."""
    settings = config.section(MeasuredSection)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "receptor-status"))
        channels = config.preprocessing.channels
        networks = ReceptorResNets(channels, size=settings.size)
        return MeasuredHeads(networks, channels, receptors.RECEPTORS, measured=settings.measured)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Sum of the three binary cross-entropies over the cases that have the label; logits `(n, 1)` of ER, PR and HER2.

    `target` is `(n, 4)`: ER, PR, HER2 as 0, 1 or NaN, and the case's weight, which balances ER and HER2 together and so
    is not used here: each network has its own classes.
    """
    total = torch.zeros((), device=target.device)
    for logits, truth in zip(outputs, target[:, :3].unbind(1), strict=True):
        total = total + masked_binary(logits, truth)
    return total


TASK = patch_classifier(
    "receptor-status",
    "Receptor status",
    settings=MeasuredSection,
    build_model=build_model,
    target=receptors.target,
    loss=loss,
    loss_title="binary cross-entropy, summed over the receptors",
    truths=receptors.truths,
    scores=receptors.scores,
    scored=receptors.LABELS,
    owners={f"{part}.{name}.": name for name in receptors.RECEPTORS for part in ("network", "measured")},
    card=Card(
        "a 3D SE-ResNet for each receptor",
        LESION_BOX,
        "probabilities of ER, PR and HER2",
        "Shiri et al., Mol Imaging Biol 2025",
    ),
)
TASKS = {task.name: task for task in (TASK, network_alone(TASK))}
