"""Torchvision's ImageNet weights: their files, and how their names become those of the networks here."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """The weights of one network (IMAGENET1K_V1).

    Attributes
    ----------
    file
        Below `https://download.pytorch.org/models/`; a cache may hold another version, which has another hash.
    title
        As a message names the network.
    final
        Prefix of the final layer's names in the file, ImageNet's thousand classes: it is not loaded.
    first
        The network's own name of its first convolution, which is adapted to the input's channels.
    names
        Patterns and replacements, applied in order: from a name of the file to the network's.

    """

    file: str
    title: str
    final: str
    first: str
    names: tuple[tuple[str, str], ...] = ()

    @property
    def pattern(self) -> str:
        """Of such files in torch hub's cache."""
        return self.file.split("-", maxsplit=1)[0] + "-*.pth"

    def own_name(self, name: str) -> str:
        """The network's name of a tensor that the file calls `name`."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name


def _resnet(depth: int, mark: str) -> Published:
    """He 2016: MONAI's names are torchvision's."""
    return Published(f"resnet{depth}-{mark}.pth", f"ResNet-{depth}", "fc.", "conv1.weight")


_DENSENET = (
    (r"^features\.", ""),
    # MONAI has `layers` between; files of before 2019, the official ones among them, say `norm.1`, now `norm1`.
    (r"(denselayer\d+)\.(norm|conv)\.?([12])\.", r"\1.layers.\2\3."),
)
_MOBILENET = (
    (r"^features\.", ""),
    (r"^0\.", "stem."),
    (r"^18\.", "last."),
    (r"^1\.conv\.0\.", "block1.depthwise."),  # the first block does not expand
    (r"^1\.conv\.1\.", "block1.project.conv."),
    (r"^1\.conv\.2\.", "block1.project.norm."),
    (r"^(\d+)\.conv\.0\.", r"block\1.expand."),
    (r"^(\d+)\.conv\.1\.", r"block\1.depthwise."),
    (r"^(\d+)\.conv\.2\.", r"block\1.project.conv."),
    (r"^(\d+)\.conv\.3\.", r"block\1.project.norm."),
    (r"(stem|last|expand|depthwise)\.0\.", r"\1.conv."),
    (r"(stem|last|expand|depthwise)\.1\.", r"\1.norm."),
)
_VIT = (
    (r"^conv_proj\.", "patches."),
    (r"^encoder\.pos_embedding$", "positions"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_", "layers.layer"),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.mlp\.linear_([12])\.", r".linear\1."),  # as files of before 2022 have it
    (r"\.mlp\.0\.", ".linear1."),
    (r"\.mlp\.3\.", ".linear2."),
)

PUBLISHED = {
    "resnet18": _resnet(18, "f37072fd"),
    "resnet34": _resnet(34, "b627a593"),
    "resnet50": _resnet(50, "0676ba61"),
    "resnet101": _resnet(101, "63fe2227"),
    "densenet121": Published("densenet121-a639ec97.pth", "DenseNet-121", "classifier.", "conv0.weight", _DENSENET),
    "mobilenet-v2": Published(
        "mobilenet_v2-b0353104.pth", "MobileNetV2", "classifier.", "stem.conv.weight", _MOBILENET
    ),
    "vit-b16": Published("vit_b_16-c867db91.pth", "ViT-B/16", "heads.", "patches.weight", _VIT),
}
"""Weights by the name of their network; names below `features` of a `PlaneNetwork`."""
