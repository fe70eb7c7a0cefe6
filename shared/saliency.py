"""Saliency maps of a classifier: SmoothGrad of a label's score, and its density in shells around the lesion.

Smilkov et al. 2017 (arXiv:1706.03825). For one channel the maps are those of MONAI's `SmoothGrad`, which tests compare.
Here each channel has its own noise level, because channels differ in range, and the distance to the lesion has no
noise. Neither the gradients of the model nor global generators of random numbers are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared.types import FloatArray

LabelScore = Callable[[list[Tensor]], Tensor]
"""From the outputs of a network to one number per patch, `(n,)`: it selects the label, and the branch to explain."""

REGIONS = ("core", "rim", "surroundings", "beyond")
_RIM_MM, _SURROUNDINGS_MM = 4.0, 10.0  # depth of the rim, deeper is the core; width of the surroundings, then beyond
_VOXELS_AT_ONCE = 400_000  # eight copies of a small patch, or one of published size, whose activations need gigabytes


def saliencies(
    model: nn.Module,
    patch: FloatArray,
    scores: Mapping[str, LabelScore],
    *,
    samples: int = 8,
    noise: float = 0.1,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Maps of several scores from the same noisy copies, which need only one forward pass for all.

    Parameters
    ----------
    model
        Maps patches `(n, channel + 1, z, y, x)` to a list of outputs. It is set to evaluation mode; its gradients are
        not changed.
    patch
        float `(channel + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface, mm.
    scores
        Scores to explain, by name.
    samples
        Number of noisy copies whose gradients are averaged.
    noise
        Standard deviation of the noise relative to the range (largest minus smallest value) of each channel. 0 is the
        plain gradient of Simonyan 2014.
    seed
        Seed of the noise.

    Returns
    -------
    float32 `(z, y, x)` by name: the absolute mean gradient with respect to the image channels, summed over channels and
    divided by its sum over the patch. The map of a branch for planes lies on those planes, and weakly on all voxels of
    the lesion if inputs are scaled by their mean over the lesion. All 0 if the score does not depend on the image.

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
    # On the CPU, so that a seed gives the same noise on every device.
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
    """Gradient of a score with respect to the image, float64 on the CPU; 0 if the score does not depend on it."""
    if not score.requires_grad:
        return torch.zeros(image.shape, dtype=torch.float64)
    gradient = torch.autograd.grad(score, image, retain_graph=True, allow_unused=True)[0]
    return torch.zeros(image.shape, dtype=torch.float64) if gradient is None else gradient.double().cpu()


def _share(gradient: Tensor) -> FloatArray:
    """Sum of absolute values `(channel, z, y, x)` over channels, as shares of the sum over the patch."""
    absolute = gradient.abs().sum(dim=0)
    total = float(absolute.sum())
    if not np.isfinite(total):
        raise ValueError("the score's gradient is not finite: there is nothing to explain")
    result: FloatArray = (absolute / total if total > 0 else absolute).numpy().astype(np.float32)
    return result


def log_odds(label: int, output: int | None = None) -> LabelScore:
    """Score of one of several exclusive labels: its log odds, from outputs that are logits `(n, label)`.

    The gradient of a probability near 0 or 1 almost vanishes; that of the log odds does not and has the same direction.
    `output` is the branch to explain; None for the mean probability of the branches.
    """

    def score(outputs: list[Tensor]) -> Tensor:
        chosen = outputs if output is None else [outputs[output]]
        logs = torch.stack(chosen).float().log_softmax(dim=2)
        others = torch.arange(logs.shape[2], device=logs.device) != label
        return logs[..., label].logsumexp(dim=0) - logs[..., others].logsumexp(dim=2).logsumexp(dim=0)

    return score


def region_means(saliency: FloatArray, distance: FloatArray) -> dict[str, float]:
    """Mean saliency in each region, relative to its mean in the whole patch: 1 means no preference.

    Parameters
    ----------
    saliency
        float `(z, y, x)`, >= 0.
    distance
        Signed distance to the lesion's surface on the same voxels, mm, positive inside.

    Returns
    -------
    Values by `REGIONS`; NaN for a region without voxels (a lesion of less than 8 mm has no core), and for all regions
    if the map is 0 everywhere.

    Raises
    ------
    ValueError
        The two differ in shape.

    """
    if saliency.shape != distance.shape:
        raise ValueError(f"a map of {saliency.shape} and distances of {distance.shape} are not of one patch")
    masks = {
        "core": distance > _RIM_MM,
        "rim": (distance > 0) & (distance <= _RIM_MM),
        "surroundings": (distance <= 0) & (distance > -_SURROUNDINGS_MM),
        "beyond": distance <= -_SURROUNDINGS_MM,
    }
    mean = float(saliency.mean(dtype=np.float64))
    return {
        name: float(saliency[mask].mean(dtype=np.float64)) / mean if mean > 0 and mask.any() else float("nan")
        for name, mask in masks.items()
    }
