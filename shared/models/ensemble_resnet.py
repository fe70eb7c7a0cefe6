"""The subtype ensemble: three 2D ResNets on the planes through the lesion and one 3D ResNet, scores averaged.

Wang et al., Radiology: Imaging Cancer 2025;7(3): pretrained 2D ResNets on the orthogonal planes, a 3D ResNet from a
random start. The networks are He 2016's as MONAI builds them. Ours beside theirs: the uptake channels are read relative
to the lesion's own, and each branch adds a linear term in what is measured of the lesion (`lesion_measures`) in what it
sees, its planes or the volume: four views err less alike than one view told four times (docs/experiments.md).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from monai.networks.nets import ResNet
from pydantic import Field
from torch import Tensor, nn

from shared.config.sections import ClassifierSection, Fraction
from shared.models.lesion_measures import lesion_measures, measure_count, plane_measures, voxel_edge
from shared.models.measured_heads import MEASURED_GAIN
from shared.models.pretrained import load_pretrained_resnet2d
from shared.models.radiomics import RadiomicsLinear

PLANES = ("axial", "coronal", "sagittal")
BRANCHES = (*PLANES, "volume")
CLASSES = 4
_SLICES = (-1 / 12, 0.0, 1 / 12)  # of the box's side from its middle: neighbours in depth, as channels
_LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_LEAST_UPTAKE = 0.2
_TINY = 1e-6  # under a root: a map without spread must not have an infinite slope
_LATE_GAIN = 2.0  # late changes are a fifth of the first uptake; this brings them near 1


class SubtypeSection(ClassifierSection):
    """The subtype ensemble: three 2D ResNets on the planes through the lesion and one 3D ResNet."""

    plane_depth: Literal[10, 18, 34, 50] = Field(default=18, description="Layers of a 2D ResNet.")
    plane_width: int = Field(default=64, ge=4, description="Feature maps of its first level; 64 is the published one.")
    volume_depth: Literal[10, 18, 34, 50] = Field(default=18, description="Layers of the 3D ResNet.")
    volume_width: int = Field(default=64, ge=4)
    dropout: Fraction = 0.0
    label_smoothing: Fraction = Field(
        default=0.0, description="Share of a label given to all subtypes alike (Szegedy 2016): fewer certain errors."
    )
    measured: bool = Field(default=True, description="Add a linear term in the lesion's measured size, shape, uptake.")
    pretrained: str = Field(
        default="hub",
        description="2D weights: a file, `hub` for torch's own cache, `none` for a random start.",
    )

    @property
    def keys_of_files(self) -> tuple[str, ...]:
        """The pretrained weights, where they are a file."""
        return () if self.pretrained in {"hub", "none"} else ("pretrained",)


class EnsembleResNet(nn.Module):
    """Four branches that share nothing; each is trained, and can be read, as a network of its own.

    Parameters
    ----------
    channels_in
        Image channels of the patch: pre-contrast, first uptake, later changes.
    config
        Depths, widths and where pretrained 2D weights come from. With `size="published"` stems have stride 2 and batch
        norm, as the pretrained weights need; small planes keep the resolution at first.

    Raises
    ------
    ConfigError
        Pretrained weights are asked for and not there.

    """

    def __init__(self, channels_in: int, config: SubtypeSection) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        for name in BRANCHES:
            flat = name in PLANES
            depth, width = (
                (config.plane_depth, config.plane_width) if flat else (config.volume_depth, config.volume_width)
            )
            images = len(_SLICES) if flat else 1
            network = build_resnet(2 if flat else 3, depth, width, images * channels_in, size=config.size)
            if flat and config.pretrained != "none":
                load_pretrained_resnet2d(network, depth, config.pretrained)
            self.branches[name] = Branch(network, channels_in, dropout=config.dropout, measured=config.measured)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits `(n, 4)` of the axial, coronal, sagittal and volume branch.

        Parameters
        ----------
        x
            Patches `(n, channels_in + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface in
            mm, positive inside.

        """
        image = relative_channels(x)
        edge = voxel_edge(x[:, -1].float())
        logits = []
        for axis, name in enumerate(PLANES):
            middle, side = (image.shape[2 + axis] - 1) / 2, image.shape[2 + axis]
            # `round` goes to even numbers: three planes would lie unevenly.
            places = [math.floor(middle + share * side + 0.5) for share in _SLICES]
            parts = [image.select(2 + axis, place) for place in places]
            logits.append(self.branches[name](torch.cat(parts, dim=1), plane_measures(x, axis, places, edge)))
        return [*logits, self.branches["volume"](image, lesion_measures(x, edge))]


class Branch(nn.Module):
    """A ResNet beside a linear term in the lesion's measures.

    Parameters
    ----------
    network
        From an image to features `(n, k)`.
    channels_in
        Image channels of the patch; they decide how many measures there are.
    classes
        Logits.
    dropout
        Of the network's features.
    measured
        Whether the linear term is there.

    """

    def __init__(
        self, network: ResNet, channels_in: int, *, classes: int = CLASSES, dropout: float, measured: bool
    ) -> None:
        super().__init__()
        self.network = network
        # Of the last feature maps the mean, and of planes also the spread: texture is a spread (docs/experiments.md).
        self.maps = int(network.fc.in_features)
        self.spread = isinstance(network.conv1, nn.Conv2d)
        network.avgpool = network.fc = nn.Identity()
        width = self.maps * (2 if self.spread else 1)
        # Deep features of a few patients differ in scale by seed; the linear layer should not have to wait for that.
        self.scaled = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        # From zero: so few steps do not wash out what a random start would say (docs/experiments.md).
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        measures = measure_count(channels_in, 2 if self.spread else 3)
        self.measured = RadiomicsLinear(measures, classes) if measured else None

    def forward(self, image: Tensor, measures: Tensor) -> Tensor:
        """Image `(n, channel, ...)` and measures `(n, measure)` to logits `(n, classes)`."""
        maps = self.network(image).reshape(len(image), self.maps, -1)
        features = maps.mean(dim=2)
        if self.spread:
            features = torch.cat([features, (maps.var(dim=2, unbiased=False) + _TINY).sqrt()], dim=1)
        logits: Tensor = self.head(self.dropout(self.scaled(features)))
        if self.measured is not None:
            logits = logits + MEASURED_GAIN * self.measured(measures)[0]
        return logits


def build_resnet(dimensions: int, depth: int, width: int, channels_in: int, *, size: str) -> ResNet:
    """A ResNet of He 2016 with `width` feature maps in its first stage, in 2 or 3 dimensions, with batch norm.

    Batch norm also where nothing pretrained asks for it: with group norm the few steps of a small run hardly trained
    the convolutions (docs/experiments.md). `size` "published": 7-voxel stem of stride 2, pooling. "small": 3-voxel
    stem, no pooling; a 3D one has a stem of stride 2 all the same, as resolution costs most there.
    """
    small = size == "small"
    return ResNet(
        "bottleneck" if depth == 50 else "basic",  # noqa: PLR2004 - He's deepest here
        list(_LAYERS[depth]),
        [width * 2**stage for stage in range(4)],
        spatial_dims=dimensions,
        n_input_channels=channels_in,
        conv1_t_size=3 if small else 7,
        conv1_t_stride=1 if small and dimensions == 2 else 2,  # noqa: PLR2004 - planes
        no_max_pool=small,
        shortcut_type="B",
        bias_downsample=False,
        num_classes=CLASSES,
    )


def relative_channels(x: Tensor) -> Tensor:
    """Channels that no gain of the scanner changes, and the lesion: `(n, channels, z, y, x)`.

    The first uptake is divided by its mean in the lesion, later changes by the uptake where they are; pre-contrast is
    left out, as fat is dark at one hospital and bright at the next. The last channel is 1 inside the lesion.
    """
    image, lesion = x[:, :-1], (x[:, -1:] > 0).to(x.dtype)
    uptake = image[:, 1:2]
    count = lesion.flatten(1).sum(dim=1).clamp(min=1)
    level = ((uptake * lesion).flatten(1).sum(dim=1) / count).clamp(min=_LEAST_UPTAKE)[:, None, None, None, None]
    late = (_LATE_GAIN * image[:, 2:] / torch.maximum(uptake, 0.3 * level)).clamp(-4.0, 4.0)
    return torch.cat([(uptake / level).clamp(-1.0, 3.0), late, lesion], dim=1)
