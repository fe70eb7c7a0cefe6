"""Grad-CAM: which places of a network's last maps raise a score (Selvaraju et al. 2017, arXiv:1610.02391).

MONAI has it for a network with one output; ours may have several, and nothing stays registered on the network. Tests
compare the two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Score = Callable[[list[Tensor]], Tensor]
"""From the outputs of a network to the number that is explained."""


def grad_cam(model: nn.Module, features: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Heat of each plane in the places of its last maps (equations 1 and 2 of the paper).

    Parameters
    ----------
    model
        Maps `x` to a list of outputs, and is set to evaluation mode.
    features
        The part of the model that gives maps `(plane, map, y, x)`, called once.
    x
        As the model reads it, on its device.
    score
        Logit of a class; several planes' logits are added up where each depends on its own plane.

    Returns
    -------
    float32 `(plane, y, x)`, at least 0: maps weighted by the mean gradient of the score over their places, added up.
    All 0 where no place raises the score.

    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, maps: Tensor) -> Tensor:
        kept.append(maps.detach().requires_grad_())  # no gradient is needed of what lies before
        return kept[0]

    hook = features.register_forward_hook(keep)
    try:
        model.eval()
        with torch.enable_grad():
            value = score(model(x))
    finally:
        hook.remove()
    (slope,) = torch.autograd.grad(value, kept[0])
    weights = slope.mean(dim=(2, 3), keepdim=True)
    return F.relu((weights * kept[0].detach()).sum(dim=1)).float()


@torch.no_grad()
def level_maps(features: nn.Sequential, planes: Tensor) -> dict[str, Tensor]:
    """Mean over the maps, `(plane, y, x)`, behind the last module of each resolution, by the module's name.

    Of a DenseNet these are its first convolution and the dense blocks (with their attention), of a ResNet its stages.
    """
    features.eval()
    levels: list[tuple[str, Tensor]] = []
    for name, module in features.named_children():
        planes = module(planes)
        if levels and levels[-1][1].shape[1:] == planes.shape[2:]:
            levels.pop()
        levels.append((name, planes.mean(dim=1)))
    return dict(levels)


def enlarged(heat: Tensor, shape: tuple[int, int]) -> Tensor:
    """Heat `(plane, y, x)` of places as heat of pixels, by linear interpolation, as the paper does."""
    return F.interpolate(heat[:, None], size=shape, mode="bilinear", align_corners=False)[:, 0]
