"""`lesion-segmentation`: find and outline the lesion in DCE-MRI (Wang et al., Radiology: Imaging Cancer 2025;7(3))."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig
from shared.models.res_unet import ResUNet
from shared.preprocessing.cache import CachedCase
from shared.reproducibility import derive_seed
from shared.tasks import Task
from shared.tasks.augmentation import augment
from shared.types import FloatArray


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


def sample(case: CachedCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The whole breast, or a patch of it; float32 image and mask. Only the patch is read from the memory map."""
    if config.training.mode == "whole_breast":
        return np.asarray(case.image, np.float32), np.asarray(case.mask, np.float32)[None]
    window = patch_window(case, config, draws)
    return np.asarray(case.image[(slice(None), *window)], np.float32), np.asarray(case.mask[window], np.float32)[None]


def patch_window(case: CachedCase, config: RunConfig, draws: np.random.Generator) -> tuple[slice, slice, slice]:
    """Choose a patch: around a lesion voxel for `foreground_share` of the draws, else anywhere in the breast box."""
    size = config.training.patch_voxels
    limits = [max(0, side - edge) for side, edge in zip(case.mask.shape, size, strict=True)]
    if len(case.foreground) and draws.random() < config.training.foreground_share:
        centre = case.foreground[draws.integers(len(case.foreground))]
        jitter = [int(draws.integers(-edge // 4, edge // 4 + 1)) for edge in size]
        start = [int(c) - edge // 2 + move for c, edge, move in zip(centre, size, jitter, strict=True)]
    else:
        start = [int(draws.integers(limit + 1)) for limit in limits]
    corner = [min(max(0, first), limit) for first, limit in zip(start, limits, strict=True)]
    z, y, x = (slice(first, first + edge) for first, edge in zip(corner, size, strict=True))
    return z, y, x


def takes(labels: CaseLabels) -> bool:
    """Cancers, and what nobody called benign."""
    return labels.malignant is not False


TASK = Task(
    name="lesion-segmentation",
    kind="segmentation",
    build_model=build_model,
    open=lambda cases, _plan, _config: [case for case in cases if takes(case.labels)],
    sample=sample,
    augment=augment,
    loss=loss,
    takes=takes,
)
