"""CBAM, the convolutional block attention module (Woo et al., ECCV 2018), for feature maps `(n, channels, y, x)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
KERNEL = 7
_LEAST_UNITS = 8  # of the shared MLP, where channels / 16 would be fewer: a few units may all start dead


class ChannelAttention(nn.Module):
    """Which feature maps matter: equation 2, `sigmoid(MLP(mean) + MLP(max))`, one weight a map.

    One MLP of two 1x1 convolutions without biases, ReLU between them, reads the mean and the maximum over the plane.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        units = max(channels // REDUCTION, _LEAST_UNITS)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, units, 1, bias=False), nn.ReLU(), nn.Conv2d(units, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weights in 0 to 1, `(n, channels, 1, 1)`."""
        mean, most = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.mlp(mean) + self.mlp(most))


class SpatialAttention(nn.Module):
    """Where it matters: equation 3, a 7x7 convolution of the mean and the maximum over the channels, then sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weights in 0 to 1, `(n, 1, y, x)`."""
        return torch.sigmoid(self.conv(torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)))


class CBAM(nn.Module):
    """Feature maps weighed by channel, then by place: equation 1.

    From 128 channels on it has `2 channels^2 / 16 + 98` parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, y, x)` to the same shape."""
        x = x * self.channel(x)
        weighed: Tensor = x * self.spatial(x)
        return weighed
