"""`receptor-status`: ER, PR and HER2 by one 3D network each (Shiri et al., Mol Imaging Biol 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.config.run_config import RunConfig
from shared.config.sections import ClassifierSection
from shared.models.measured_heads import MeasuredHeads
from shared.models.receptor_resnet import ReceptorResNets
from shared.reproducibility import derive_seed
from shared.tasks import patches, receptors
from shared.tasks.choice import separates_best
from shared.tasks.classification import log_losses, score_evaluator, score_metrics, seen_by, used_by
from shared.tasks.masked_losses import masked_binary
from shared.tasks.task import Card, Learner, Task


def build_model(config: RunConfig) -> nn.Module:
    """Three networks of the configuration's size, each with a linear term in the lesion's measures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "receptor-status"))
        channels = config.preprocessing.channels
        networks = ReceptorResNets(channels, size=config.section(ClassifierSection).size)
        return MeasuredHeads(networks, channels, receptors.RECEPTORS)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Sum of the three binary cross-entropies over the cases that have the label.

    Parameters
    ----------
    outputs
        Logits `(n, 1)` of ER, PR and HER2.
    target
        `(n, 4)`: ER, PR, HER2 as 0, 1 or NaN, and the case's weight, which balances ER and HER2 together and so is not
        used here: each network has its own classes.

    """
    total = torch.zeros((), device=target.device)
    for logits, truth in zip(outputs, target[:, :3].unbind(1), strict=True):
        total = total + masked_binary(logits, truth)
    return total


METRICS = tuple(score_metrics(receptors.LABELS))

TASK = Task(
    name="receptor-status",
    title="Receptor status",
    settings=ClassifierSection,
    uses=used_by(receptors.truths),
    seen=seen_by(receptors.truths),
    learner=Learner(
        build_model=build_model,
        open=lambda cases, plan, config: patches.open_patches(cases, plan, config, receptors.target),
        sample=patches.sample,
        augment=patches.augment,
        loss=loss,
        loss_title="binary cross-entropy, summed over the receptors",
        shape=patches.shape,
        owners={f"{part}.{name}.": name for name in receptors.RECEPTORS for part in ("network", "measured")},
    ),
    evaluator=score_evaluator(receptors.truths, receptors.scores),
    metrics=METRICS,
    choice=separates_best(receptors.RECEPTORS, log_losses(METRICS)),
    card=Card(
        network="a 3D SE-ResNet for each receptor",
        reads="a box around the lesion in DCE-MRI, cut from its outline",
        answers="probabilities of ER, PR and HER2",
        citation="Shiri et al., Mol Imaging Biol 2025",
    ),
    labels=receptors.LABELS,
    scored=receptors.LABELS,
    reads_outline=True,
)
