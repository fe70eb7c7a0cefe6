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

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes: planes and volumes."""


def pick_device(config: RunConfig) -> torch.device:
    """Device of the configuration; `auto` is a GPU if there is one."""
    wanted = config.compute.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def place_model(model: nn.Module, config: RunConfig) -> torch.device:
    """Move a network to the configured device, its weights in the configured layout; return the device."""
    device = pick_device(config)
    model.to(device)
    if config.compute.channels_last:
        for item in model.parameters():
            item.data = in_layout(item.data, config)
    return device


def in_layout(values: Tensor, config: RunConfig) -> Tensor:
    """A batch `(n, channel, ...)` of planes or volumes, or a convolution's weights, in the configured layout."""
    layout = _CHANNELS_LAST.get(values.dim()) if config.compute.channels_last else None
    return values if layout is None else values.contiguous(memory_format=layout)


def predict_structures(model: nn.Module, image: npt.NDArray[np.floating[Any]], config: RunConfig) -> FloatArray:
    """Probability of each structure in one prepared case, float32 `(structure, z, y, x)` on the plan's grid.

    `image` is float `(channel, z, y, x)` on that grid; mode, overlap, batch size and flips are the configuration's.
    """
    torch.set_num_threads(config.compute.threads)
    device = place_model(model, config)
    model.eval()
    volume = torch.from_numpy(np.asarray(image, np.float32)).unsqueeze(0).to(device)
    mirrors = config.inference.copies
    copies = [volume.flip(axes) for axes in mirrors]
    half = config.inference.mixed_precision == "auto" and device.type == "cuda"
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        if config.training.mode == "whole_breast":
            # One batch: mirrored copies cost little, as 3D convolutions of batch 1 are slow on the CPU.
            logits = model(in_layout(torch.cat(copies), config))[0]
        else:
            logits = torch.cat([_patches(model, copy, config) for copy in copies])
        parts = torch.sigmoid(logits.float())
        mean = torch.stack([part.flip(axes) for part, axes in zip(parts, mirrors, strict=True)]).mean(dim=0)
    result: FloatArray = mean.cpu().numpy()
    return result


def _patches(model: nn.Module, volume: Tensor, config: RunConfig) -> Tensor:
    """Logits `(1, structure, z, y, x)` of overlapping patches, blended by MONAI with a Gaussian (Isensee 2021)."""
    # Imported here, because it takes 4 s, which whole-breast mode does not need.
    from monai.inferers.utils import sliding_window_inference

    logits: Tensor = sliding_window_inference(
        volume,
        roi_size=config.training.patch_voxels,
        sw_batch_size=config.inference.batch_size,
        predictor=lambda patch: model(in_layout(patch, config))[0].float(),
        overlap=config.inference.overlap,
        mode="gaussian",
    )
    return logits


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
