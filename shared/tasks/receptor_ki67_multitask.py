"""`receptor-ki67-multitask`: ER, PR, HER2 and Ki-67 by one spatial network (Zeng et al., arXiv 2601.07001)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.cohort.labels import KI67
from shared.config.run_config import RunConfig
from shared.config.sections import MeasuredSection
from shared.models.radiomics import MeasuredHeads
from shared.models.spatial_multitask import KI67_UNIT, MARKERS, SpatialMultitask
from shared.reproducibility import derive_seed
from shared.tasks import receptors
from shared.tasks.classification import Scores
from shared.tasks.masked_losses import multitask_loss
from shared.tasks.patch_classifier import LESION_BOX, network_alone, patch_classifier
from shared.tasks.task import Card

_HEADS = len(MARKERS)
_CHANNELS = {"small": (16, 32, 64), "published": (32, 64, 128, 256)}
"""Feature maps a scale by size. The paper at hand states none: the larger ones are ours, for a GPU."""


class MultitaskSection(MeasuredSection):
    """The spatial multi-task network: ER, PR, HER2 and Ki-67 from one phase."""

    uncertainty_weights: bool = Field(default=False, description="Weigh the four losses by learnt uncertainty.")


class MultitaskAloneSection(MultitaskSection):
    """The same network without its linear terms, beside it in one run."""

    measured: bool = False


class WithUncertainty(nn.Module):
    """The network with its log-variances as further outputs, so that the loss needs to see nothing but outputs."""

    def __init__(self, network: SpatialMultitask) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """Four outputs `(n, 1)`, then the four log-variances."""
        return [*self.network(x), *(self.network.log_variance[name] for name in MARKERS)]


def build_model(config: RunConfig) -> nn.Module:
    """The network and, as configured, its linear terms; log-variances are outputs where they weigh the losses."""
    settings = config.section(MultitaskSection)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "receptor-ki67-multitask"))
        channels = config.preprocessing.channels
        spacing = settings.patch.spacing_mm or 2.0
        network = SpatialMultitask(channels, channels=_CHANNELS[settings.size], spacing_mm=spacing)
        whole = WithUncertainty(network) if settings.uncertainty_weights else network
        return MeasuredHeads(whole, channels, MARKERS, measured=settings.measured)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Sum of the four losses over the cases that have the label, weighed alike or by uncertainty.

    `outputs`: ER, PR, HER2, Ki-67 `(n, 1)`, then log-variances where there are any. `target` is `(n, 5)`: three
    receptors, Ki-67 in units of 10 points, NaN where missing; the case's weight, not used.
    """
    spread = dict(zip(MARKERS, outputs[_HEADS:], strict=True)) if len(outputs) > _HEADS else None
    return multitask_loss(outputs[:_HEADS], target[:, :_HEADS], spread)


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probabilities, and Ki-67 in percent."""
    return receptors.scores(outputs[:_HEADS])


def _owners() -> dict[str, str]:
    """Linear terms, heads and log-variances by their marker; the network's own with and without its wrapper."""
    owners = {}
    for name in MARKERS:
        label = KI67.name if name == "ki67" else name
        owners[f"measured.{name}."] = label
        for start in ("network.", "network.network."):
            owners[f"{start}heads.{name}."] = owners[f"{start}log_variance.{name}"] = label
    return owners


TASK = patch_classifier(
    "receptor-ki67-multitask",
    "Receptors and Ki-67",
    settings=MultitaskSection,
    build_model=build_model,
    target=receptors.target_with_ki67,
    loss=loss,
    loss_title="cross-entropies of the receptors and the squared error of Ki-67",
    truths=receptors.truths_with_ki67,
    scores=scores,
    scored=receptors.LABELS,
    labels=(*receptors.LABELS, KI67),
    pairs=(receptors.KI67_PAIR,),
    error_scales={"mae_ki67": KI67_UNIT},
    owners=_owners(),
    card=Card(
        "one spatial multi-task network",
        LESION_BOX,
        "probabilities of ER, PR and HER2, and Ki-67 in percent",
        "Zeng et al., arXiv 2601.07001",
    ),
)
TASKS = {task.name: task for task in (TASK, network_alone(TASK, MultitaskAloneSection))}
