"""DenseNet121 with CBAM: mammography's network of Luo et al., Front Oncol 2025;15:1638212.

The DenseNet (Huang 2017) is MONAI's. Attention stands behind each of the first three dense blocks; the paper's
comparator "in the transition layers" is read as behind a transition's convolution, before its pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from monai.networks.nets import DenseNet
from torch import nn

from shared.models.attention import CBAM
from shared.models.plane_network import PlaneNetwork, Size

Attention = Literal["none", "blocks", "transitions"]

_BUILDS = {"published": (64, 32, (6, 12, 24, 16)), "small": (16, 8, (2, 2, 2, 2))}
"""Feature maps of the first convolution, growth, layers of each dense block (Huang 2017, table 1)."""


def densenet121(channels_in: int, classes: int, *, size: Size, dropout: float, attention: Attention) -> PlaneNetwork:
    """Build DenseNet121 ("published"), or four dense blocks of two layers with growth 8 ("small").

    In `features` stand MONAI's modules under its names, `attention1` to `attention3` among them; a side is reduced
    32-fold.
    """
    first, growth, blocks = _BUILDS[size]
    monai = DenseNet(2, channels_in, classes, init_features=first, growth_rate=growth, block_config=blocks)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    maps = first
    for name, module in monai.features.named_children():
        modules[name] = module
        number = int(name[-1])
        if name.startswith("denseblock"):
            maps += growth * blocks[number - 1]
            if attention == "blocks" and number < len(blocks):
                modules[f"attention{number}"] = CBAM(maps)
        elif name.startswith("transition"):
            maps //= 2
            if attention == "transitions":
                modules[name] = with_attention(module, maps)
    modules["relu5"] = nn.ReLU(inplace=True)
    return PlaneNetwork(nn.Sequential(modules), maps, classes, dropout=dropout)


def with_attention(transition: nn.Module, maps: int) -> nn.Sequential:
    """A transition whose pooling reads attended maps."""
    parts = OrderedDict(transition.named_children())
    parts["attention"] = CBAM(maps)
    parts.move_to_end("pool")
    return nn.Sequential(parts)
