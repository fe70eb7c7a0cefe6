"""`lesion-segmentation`: find and outline the lesion in DCE-MRI (Wang et al., Radiology: Imaging Cancer 2025;7(3))."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.config import RunConfig
from shared.models.res_unet import ResUNet
from shared.reproducibility import derive_seed


def build_model(config: RunConfig) -> nn.Module:
    """The ResU-Net of the configuration, its start drawn from the configuration's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "model"))
        return ResUNet(channels_in=1 + config.preprocessing.post_phases, config=config.model)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Dice plus cross-entropy over the supervised levels, weights halved a level (Isensee 2021).

    Parameters
    ----------
    outputs
        Logits `(n, 1, z, y, x)`, the first at the target's resolution, the others coarser.
    target
        float `(n, 1, z, y, x)` of 0 and 1.

    """
    weights = [0.5**level for level in range(len(outputs))]
    total = torch.zeros((), device=target.device)
    for weight, logits in zip(weights, outputs, strict=True):
        truth = target
        if logits.shape != target.shape:
            # The share of lesion inside a coarse voxel: small lesions keep their weight at every level.
            truth = F.adaptive_avg_pool3d(target, (logits.shape[2], logits.shape[3], logits.shape[4]))
        total = total + weight * (dice_loss(logits, truth) + F.binary_cross_entropy_with_logits(logits, truth))
    return total / sum(weights)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice over the whole batch (Milletari 2016); one voxel of smoothing keeps an empty batch defined."""
    probability = torch.sigmoid(logits.float())
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + target.sum() + 1)
