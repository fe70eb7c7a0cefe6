"""Where a classifier looks: SmoothGrad maps of a label's score, and their density in shells around the lesion.

Smilkov et al. 2017 (arXiv:1706.03825). MONAI's `SmoothGrad` is the same for one channel, and tests hold this file to it
there; a patch needs more than it gives. Channels differ in range, so each has noise of its own. The distance to the
lesion is no image and has none. And what is explained stays as it was: no gradients on it, no global generator touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared.types import FloatArray

LabelScore = Callable[[list[Tensor]], Tensor]
"""From a network's outputs for a batch to one figure a patch, `(n,)`: it picks the label, and the branch to explain."""

REGIONS = ("core", "rim", "surroundings", "beyond")
RIM_MM = 4.0
"""Depth to which the rim reaches; deeper voxels are core."""
_VOXELS_AT_ONCE = 400_000  # eight copies of the quick patch; one of a published one, whose activations fill gigabytes


def saliency(
    model: nn.Module, patch: FloatArray, label_score: LabelScore, *, samples: int = 8, noise: float = 0.1, seed: int = 0
) -> FloatArray:
    """Say how much a label's score hangs on each voxel of a patch; see `saliencies`.

    Returns
    -------
    float32 `(z, y, x)`, >= 0, of sum 1; all 0 where the score does not depend on the image.

    """
    return saliencies(model, patch, {"": label_score}, samples=samples, noise=noise, seed=seed)[""]


def saliencies(
    model: nn.Module,
    patch: FloatArray,
    scores: Mapping[str, LabelScore],
    *,
    samples: int = 8,
    noise: float = 0.1,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Maps of several scores from the same noisy copies: forward passes are shared, as branches have one input.

    Parameters
    ----------
    model
        From patches `(n, channel + 1, z, y, x)` to a list of outputs. Left in evaluation mode, without gradients.
    patch
        float `(channel + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface, mm.
    scores
        What to explain, by name.
    samples
        Noisy copies whose gradients are averaged.
    noise
        Their noise's standard deviation over the range (largest minus smallest value) of each channel. 0 is the plain
        gradient of Simonyan 2014.
    seed
        Fixes the noise.

    Returns
    -------
    By name float32 `(z, y, x)`: the absolute mean gradient with respect to the image channels, summed over them and
    divided by its sum over the patch. A plane's branch has its map on the planes it reads, and a trace of it wherever
    the network's inputs are scaled by a mean over the lesion. All 0 where the score does not depend on the image.

    Raises
    ------
    ValueError
        `samples` is not positive, or a gradient is not finite.

    """
    if samples < 1:
        raise ValueError(f"{samples} noisy copies cannot be averaged")
    known = next(model.parameters(), None)
    device = torch.device("cpu") if known is None else known.device
    model.eval()
    whole = torch.from_numpy(np.array(patch, np.float32))
    image, distance = whole[:-1], whole[-1:]
    spread = noise * (image.amax(dim=(1, 2, 3)) - image.amin(dim=(1, 2, 3)))[:, None, None, None]
    # On the CPU whatever the device, so that a seed is one noise everywhere.
    generator = torch.Generator().manual_seed(seed)
    copies = [image + spread * torch.randn(image.shape, generator=generator) for _ in range(samples)]
    together = max(1, _VOXELS_AT_ONCE // distance.numel())
    total = {name: torch.zeros(image.shape, dtype=torch.float64) for name in scores}
    for start in range(0, samples, together):
        noisy = torch.stack(copies[start : start + together]).to(device).requires_grad_()
        with torch.enable_grad():
            beside = distance.to(device).expand(len(noisy), *distance.shape)
            outputs = model(torch.cat([noisy, beside], dim=1))
            for name, label_score in scores.items():
                total[name] += _gradient(label_score(outputs).sum(), noisy).sum(dim=0)
    return {name: _share(gradient) for name, gradient in total.items()}


def _gradient(score: Tensor, image: Tensor) -> Tensor:
    """Gradient of a score by the image alone, float64 on the CPU; 0 where the one does not hang on the other."""
    if not score.requires_grad:
        return torch.zeros(image.shape, dtype=torch.float64)
    found = torch.autograd.grad(score, image, retain_graph=True, allow_unused=True)[0]
    return torch.zeros(image.shape, dtype=torch.float64) if found is None else found.double().cpu()


def _share(gradient: Tensor) -> FloatArray:
    """Absolute values of `(channel, z, y, x)` summed over channels, as shares of the patch."""
    absolute = gradient.abs().sum(dim=0)
    total = float(absolute.sum())
    if not np.isfinite(total):
        raise ValueError("the score's gradient is not finite: there is nothing to explain")
    result: FloatArray = (absolute / total if total > 0 else absolute).numpy().astype(np.float32)
    return result


def log_odds(label: int, output: int | None = None) -> LabelScore:
    """Score of one of several exclusive labels: the logarithm of its odds.

    A probability near 0 or 1 has hardly a gradient; its log odds have one that points the same way.

    Parameters
    ----------
    label
        Column of the outputs, which are logits `(n, label)`.
    output
        The branch to explain; None: the mean of the branches' probabilities.

    """

    def score(outputs: list[Tensor]) -> Tensor:
        chosen = outputs if output is None else [outputs[output]]
        logs = torch.stack(chosen).float().log_softmax(dim=2)
        others = torch.arange(logs.shape[2], device=logs.device) != label
        return logs[..., label].logsumexp(dim=0) - logs[..., others].logsumexp(dim=2).logsumexp(dim=0)

    return score


def region_means(
    saliency: FloatArray, distance: FloatArray, *, rim_mm: float = RIM_MM, surround_mm: float = 10.0
) -> dict[str, float]:
    """Saliency a voxel in each region, over its mean in the whole patch: 1 is no preference.

    Parameters
    ----------
    saliency
        float `(z, y, x)`, >= 0.
    distance
        Signed distance to the lesion's surface on the same voxels, mm, positive inside.
    rim_mm
        Depth to which the rim reaches; deeper voxels are core.
    surround_mm
        How far outside the surroundings reach; farther voxels are beyond.

    Returns
    -------
    By name of `REGIONS`; NaN for a region without a voxel (no lesion under 8 mm has a core), and for all where the map
    is 0 everywhere.

    Raises
    ------
    ValueError
        The two differ in shape.

    """
    if saliency.shape != distance.shape:
        raise ValueError(f"a map of {saliency.shape} and distances of {distance.shape} are not of one patch")
    around = (distance <= 0) & (distance > -surround_mm)
    masks = (distance > rim_mm, (distance > 0) & (distance <= rim_mm), around, distance <= -surround_mm)
    mean = float(saliency.mean(dtype=np.float64))
    return {
        name: float(saliency[mask].mean(dtype=np.float64)) / mean if mean > 0 and mask.any() else float("nan")
        for name, mask in zip(REGIONS, masks, strict=True)
    }
