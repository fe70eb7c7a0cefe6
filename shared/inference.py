"""Segment a prepared case with a network: the whole breast box at once, or overlapping patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.config.run_config import RunConfig
from shared.types import FloatArray


def pick_device(config: RunConfig) -> torch.device:
    """Device of the configuration; `auto` is a GPU if there is one."""
    wanted = config.compute.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def predict_structures(model: nn.Module, image: npt.NDArray[np.floating[Any]], config: RunConfig) -> FloatArray:
    """Probability of each structure in one prepared case, float32 `(structure, z, y, x)` on the plan's grid.

    `image` is float `(channel, z, y, x)` on that grid; mode, overlap, batch size and flips are the configuration's.
    """
    device = pick_device(config)
    torch.set_num_threads(config.compute.threads)
    model.to(device).eval()
    volume = torch.from_numpy(np.asarray(image, np.float32)).unsqueeze(0).to(device)
    with torch.inference_mode():
        if config.training.mode == "whole_breast":
            probability = _whole(model, volume, flip=config.inference.flip_averaging)
        else:
            probability = _patches(model, volume, config)
    result: FloatArray = probability.float().cpu().numpy()
    return result


def _whole(model: nn.Module, volume: Tensor, *, flip: bool) -> Tensor:
    if not flip:
        return torch.sigmoid(model(volume)[0])[0]
    # One batch of two: the mirrored copy costs little, as 3D convolutions of batch 1 are slow on the CPU.
    both = torch.sigmoid(model(torch.cat([volume, volume.flip(4)]))[0])
    return 0.5 * (both[0] + both[1].flip(3))


def _patches(model: nn.Module, volume: Tensor, config: RunConfig) -> Tensor:
    """Overlapping patches, blended with a Gaussian window (Isensee 2021) by MONAI."""
    # Imported here, because it takes 4 s, which whole-breast mode does not need.
    from monai.inferers.utils import sliding_window_inference

    logits: Tensor = sliding_window_inference(
        volume,
        roi_size=config.training.patch_voxels,
        sw_batch_size=config.inference.batch_size,
        predictor=lambda patch: model(patch)[0],
        overlap=config.inference.overlap,
        mode="gaussian",
    )
    return torch.sigmoid(logits)[0]


def mean_volume(probabilities: Sequence[FloatArray]) -> FloatArray:
    """Mean probability of several models, which all have one shape: the ensemble, before any threshold."""
    mean: FloatArray = np.mean(probabilities, axis=0, dtype=np.float32)
    return mean


def volume_shape(config: RunConfig) -> tuple[int, ...]:
    """Shape `(channel, z, y, x)` of the input of a segmentation network; for whole breasts the largest cube."""
    channels = config.preprocessing.channels
    if config.training.mode == "patch":
        return (channels, *config.training.patch_voxels)
    side = max(8, round(config.preprocessing.max_voxels ** (1 / 3) / 8) * 8)
    return channels, side, side, side
