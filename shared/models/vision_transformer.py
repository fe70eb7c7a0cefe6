"""ViT-B/16 (Dosovitskiy et al., ICLR 2021) of torch's own encoder layers: MONAI's needs a package that we do not have.

Torch's layer with the norm first and GELU is the paper's (equations 1 to 4), and torchvision's weights fit it.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from shared.models.plane_network import PlaneNetwork, Size

PATCH = 16  # pixels of an edge
_BUILDS = {"published": (768, 12, 12), "small": (48, 2, 4)}
"""Width, layers, heads (table 1); the MLP is four times as wide."""
_EPSILON = 1e-6  # of the layer norms, as in the authors' code


def vit_b16(channels_in: int, classes: int, *, size: Size, dropout: float, side: int) -> PlaneNetwork:
    """Build ViT-B/16 or a narrow one of two layers ("small"), for planes of `side` pixels, a multiple of 16.

    Raises
    ------
    ValueError
        The side is no multiple of 16.

    """
    if side % PATCH:
        raise ValueError(f"a plane of {side} pixels does not divide into patches of {PATCH}")
    dim, layers, heads = _BUILDS[size]
    return PlaneNetwork(Encoder(channels_in, side, dim, layers, heads), dim, classes, dropout=dropout)


class Encoder(nn.Module):
    """Patches as tokens behind a class token, through the layers to a last norm."""

    def __init__(self, channels_in: int, side: int, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels_in, dim, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, (side // PATCH) ** 2 + 1, dim))
        # Each layer is built on its own: torch's `TransformerEncoder` copies one, so that all would start alike.
        self.layers = nn.Sequential(
            OrderedDict((f"layer{number}", encoder_layer(dim, heads)) for number in range(layers))
        )
        self.norm = nn.LayerNorm(dim, eps=_EPSILON)
        nn.init.trunc_normal_(self.patches.weight, std=math.sqrt(1 / self.patches.weight[0].numel()))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]  # it has one
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Planes `(n, channel, side, side)` to the class token, `(n, dim, 1)`."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        answer: Tensor = self.norm(self.layers(tokens))[:, 0, :, None]
        return answer


def encoder_layer(dim: int, heads: int) -> nn.TransformerEncoderLayer:
    """One layer, its MLP started as in the authors' code (appendix B.1: Xavier's uniform weights)."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", layer_norm_eps=_EPSILON, batch_first=True, norm_first=True
    )
    for linear in (layer.linear1, layer.linear2):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.normal_(linear.bias, std=1e-6)
    return layer
