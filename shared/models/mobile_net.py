"""MobileNetV2 (Sandler et al., CVPR 2018), which MONAI does not have; with CBAM in each bottleneck where asked for.

Woo 2018 (figure 3) attends what a residual block adds, before it is added: so it is done in the inverted residual.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from shared.models.attention import CBAM
from shared.models.plane_network import PlaneNetwork, Size

_STEM, _LAST = 32, 1280
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2: expansion, feature maps, blocks, stride of the first block."""
_SMALL_SHARE = 0.25
_MULTIPLE = 8


def mobilenet_v2(channels_in: int, classes: int, *, size: Size, dropout: float, attention: bool) -> PlaneNetwork:
    """Build MobileNetV2, or one with a quarter of its maps and one block a stage ("small"); 32-fold reduction."""
    small = size == "small"
    share = _SMALL_SHARE if small else 1.0
    maps, last = width(_STEM, share), width(_LAST, share)
    modules: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_norm(channels_in, maps, kernel=3, stride=2))
    for expansion, channels, blocks, stride in _STAGES:
        after = width(channels, share)
        for block in range(1 if small else blocks):
            modules[f"block{len(modules)}"] = InvertedResidual(
                maps, after, expansion=expansion, stride=stride if block == 0 else 1, attention=attention
            )
            maps = after
    modules["last"] = conv_norm(maps, last)
    features = nn.Sequential(modules)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return PlaneNetwork(features, last, classes, dropout=dropout)


class InvertedResidual(nn.Module):
    """Expand, convolve each map alone, project without an activation; added to the input where the shapes agree."""

    def __init__(self, before: int, after: int, *, expansion: int, stride: int, attention: bool) -> None:
        super().__init__()
        wide = before * expansion
        self.expand = conv_norm(before, wide) if expansion > 1 else nn.Identity()
        self.depthwise = conv_norm(wide, wide, kernel=3, stride=stride, groups=wide)
        self.project = conv_norm(wide, after, activation=False)
        self.attention = CBAM(after) if attention else nn.Identity()
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """`(n, before, y, x)` to `(n, after, y / stride, x / stride)`."""
        change: Tensor = self.attention(self.project(self.depthwise(self.expand(x))))
        return x + change if self.residual else change


def conv_norm(
    before: int, after: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm, and ReLU6 unless the layer is to stay linear."""
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=nn.BatchNorm2d(after))
    if activation:
        parts["act"] = nn.ReLU6(inplace=True)
    return nn.Sequential(parts)


def width(channels: int, share: float) -> int:
    """Feature maps at a share of the published width: the nearest multiple of 8 from 8 on."""
    return max(_MULTIPLE, int(channels * share + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
