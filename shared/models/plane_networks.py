"""The table of networks that classify one plane: to add one, write what builds it and name it here.

They are those that Luo et al. (Front Oncol 2025;15:1638212) compare for mammography. Where the paper says no more than
a name, the choice is ours and stands in the docstring of what builds the network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from monai.networks.nets import ResNet
from torch import nn

from shared.errors import ConfigError
from shared.models.densenet_cbam import densenet121
from shared.models.mobile_net import conv_norm, mobilenet_v2
from shared.models.plane_network import PlaneNetwork, Size
from shared.models.pretrained import load_pretrained
from shared.models.vision_transformer import vit_b16

PUBLISHED_SIDE = 224
"""Pixels of an edge of the published input."""
_RESNETS = {"published": ([3, 4, 23, 3], 64), "small": ([1, 1, 1, 1], 8)}
_SIMPLE = {"published": (32, 64, 128, 256), "small": (8, 16, 24, 32)}


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the table.

    Attributes
    ----------
    build
        From input channels and classes, with `size` and `dropout`.
    weights
        Whose ImageNet weights fit it, by a key of `pretrained.PUBLISHED`; empty: nobody's.
    needs_side
        Whether `build` also takes the input's `side`.

    """

    build: Callable[..., PlaneNetwork]
    weights: str = ""
    needs_side: bool = False


def resnet101(channels_in: int, classes: int, *, size: Size, dropout: float) -> PlaneNetwork:
    """ResNet101 (He 2016, table 1), MONAI's, or one bottleneck a stage and 8 maps at first ("small")."""
    blocks, planes = _RESNETS[size]
    monai = ResNet(
        "bottleneck",
        blocks,
        [planes * 2**stage for stage in range(4)],
        spatial_dims=2,
        n_input_channels=channels_in,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
    )
    parts = OrderedDict(item for item in monai.named_children() if item[0] != "avgpool")
    return PlaneNetwork(nn.Sequential(parts), 32 * planes, classes, dropout=dropout)


def simple_cnn(channels_in: int, classes: int, *, size: Size, dropout: float) -> PlaneNetwork:
    """Four times a 3x3 convolution, batch norm, ReLU6 and pooling of 2; 32 to 256 maps, or 8 to 32 ("small")."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    before = channels_in
    for number, maps in enumerate(_SIMPLE[size], 1):
        parts[f"level{number}"] = conv_norm(before, maps, kernel=3)
        parts[f"pool{number}"] = nn.MaxPool2d(2)
        before = maps
    return PlaneNetwork(nn.Sequential(parts), before, classes, dropout=dropout)


NETWORKS = {
    "densenet121-cbam": Network(partial(densenet121, attention="blocks"), "densenet121"),
    "densenet121": Network(partial(densenet121, attention="none"), "densenet121"),
    "densenet121-cbam-transitions": Network(partial(densenet121, attention="transitions"), "densenet121"),
    "resnet101": Network(resnet101, "resnet101"),
    "mobilenet-v2": Network(partial(mobilenet_v2, attention=False), "mobilenet-v2"),
    "mobilenet-v2-cbam": Network(partial(mobilenet_v2, attention=True), "mobilenet-v2"),
    "vit-b16": Network(vit_b16, "vit-b16", needs_side=True),
    "simple-cnn": Network(simple_cnn),
}
"""Networks by the name that configurations use."""


def build_network(
    name: str,
    classes: int,
    *,
    channels_in: int = 1,
    size: Size = "published",
    dropout: float = 0.3,
    side: int = PUBLISHED_SIDE,
    pretrained: str = "none",
) -> PlaneNetwork:
    """Build a network of the table; its start is drawn from torch's generator.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    classes
        Logits.
    channels_in, side
        Input `(n, channels_in, side, side)`; only the vision transformer is bound to the side.
    size
        `"published"`, or `"small"` for a few CPU cores.
    dropout
        Before the last layer: the paper gives 0.3 and no place.
    pretrained
        `"none"`, a file or `"hub"` (`pretrained.load_pretrained`); attention and last layer keep their drawn start.

    Raises
    ------
    ConfigError
        There is no such network; there are no pretrained weights of it, or they cannot be had or do not fit.

    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network '{name}'; there are {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    at_side = {"side": side} if network.needs_side else {}
    model = network.build(channels_in, classes, size=size, dropout=dropout, **at_side)
    if pretrained != "none":
        if not network.weights:
            raise ConfigError(f"there are no ImageNet weights of '{name}': set pretrained = \"none\"")
        load_pretrained(model.features, network.weights, pretrained)
    return model
