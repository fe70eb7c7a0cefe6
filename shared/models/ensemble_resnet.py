"""Subtype ensemble: the mean of three 2D ResNets on the planes through the lesion and one 3D ResNet.

Wang et al., Radiology: Imaging Cancer 2025;7(3): pretrained 2D ResNets on the orthogonal planes and a 3D ResNet from
random weights. The networks are those of He 2016, built by MONAI. Two things differ from the paper. Uptake is divided
by the mean uptake of the lesion. Each branch adds a linear term in measures of the lesion (`lesion_measures`) that are
taken from its own planes or from the volume; four such branches make fewer errors in common than four branches with the
same measures (docs/experiments.md).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from monai.networks.nets import ResNet
from pydantic import Field
from torch import Tensor, nn

from shared.config.sections import Fraction, MeasuredSection
from shared.models.lesion_measures import lesion_measures, measure_count, plane_measures, voxel_edge
from shared.models.pretrained import load_pretrained
from shared.models.radiomics import MEASURED_GAIN, RadiomicsLinear

PLANES = ("axial", "coronal", "sagittal")
BRANCHES = (*PLANES, "volume")
CLASSES = 4
_SLICES = (-1 / 12, 0.0, 1 / 12)  # offsets of the planes, channels of one branch, as shares of the box's side
_LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_LEAST_UPTAKE = 0.2
_TINY = 1e-6  # added under a root, whose slope is infinite at 0
_LATE_GAIN = 2.0  # late changes are about a fifth of the first uptake; the factor brings them closer to 1


class SubtypeSection(MeasuredSection):
    """The subtype ensemble: three 2D ResNets on the planes through the lesion and one 3D ResNet."""

    plane_depth: Literal[10, 18, 34, 50] = Field(default=18, description="Layers of a 2D ResNet.")
    plane_width: int = Field(
        default=64, ge=4, le=1024, description="Feature maps of its first level; 64 is the published one."
    )
    volume_depth: Literal[10, 18, 34, 50] = Field(default=18, description="Layers of the 3D ResNet.")
    volume_width: int = Field(default=64, ge=4, le=1024)
    dropout: Fraction = 0.0
    label_smoothing: Fraction = Field(
        default=0.0,
        description="Label smoothing (Szegedy 2016): the share of a label that is spread over all subtypes.",
    )
    pretrained: str = Field(
        default="hub",
        max_length=4096,
        description="2D weights: a file, `hub` for torch's own cache, `none` for a random start.",
    )

    @property
    def keys_of_files(self) -> tuple[str, ...]:
        """Key of the pretrained weights if they are a file."""
        return () if self.pretrained in {"hub", "none"} else ("pretrained",)


class SubtypeAloneSection(SubtypeSection):
    """The same ensemble without its linear terms, beside it in one run."""

    measured: bool = False


class EnsembleResNet(nn.Module):
    """Four branches that share no parameters; each is trained as a network of its own.

    Parameters
    ----------
    channels_in
        Image channels of the patch: pre-contrast, first uptake, later changes.
    config
        Depths, widths and the source of pretrained 2D weights. With `size="published"` the first convolution has stride
        2, as the pretrained weights need; with "small" it keeps the resolution of the planes.

    Raises
    ------
    ConfigError
        The pretrained weights are missing.

    """

    def __init__(self, channels_in: int, config: SubtypeSection) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        for name in BRANCHES:
            if name in PLANES:
                depth, width = config.plane_depth, config.plane_width
                network = build_resnet(2, depth, width, len(_SLICES) * channels_in, size=config.size)
                if config.pretrained != "none":
                    load_pretrained(network, f"resnet{depth}", config.pretrained)
            else:
                network = build_resnet(3, config.volume_depth, config.volume_width, channels_in, size=config.size)
            self.branches[name] = Branch(network, channels_in, dropout=config.dropout, measured=config.measured)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits `(n, 4)` of the axial, coronal, sagittal and volume branches.

        The last channel of patches `(n, channels_in + 1, z, y, x)` is the signed distance to the lesion's surface in
        mm, positive inside.
        """
        image = relative_channels(x)
        edge = voxel_edge(x[:, -1].float())
        logits = []
        for axis, name in enumerate(PLANES):
            middle, side = (image.shape[2 + axis] - 1) / 2, image.shape[2 + axis]
            # Python's `round` rounds halves to even numbers, which would space the three planes unevenly.
            places = [math.floor(middle + share * side + 0.5) for share in _SLICES]
            parts = [image.select(2 + axis, place) for place in places]
            logits.append(self.branches[name](torch.cat(parts, dim=1), plane_measures(x, axis, places, edge)))
        return [*logits, self.branches["volume"](image, lesion_measures(x, edge))]


class Branch(nn.Module):
    """A ResNet, whose final layer is replaced, plus if `measured` a linear term in measures of the lesion.

    `channels_in` counts the image channels of the patch, which determine the number of measures; `dropout` is the
    probability of dropping a feature of the network.
    """

    def __init__(
        self, network: ResNet, channels_in: int, *, classes: int = CLASSES, dropout: float, measured: bool
    ) -> None:
        super().__init__()
        self.network = network
        # Mean of each feature map, and for planes also its standard deviation, which texture shows in
        # (docs/experiments.md).
        self.maps = int(network.fc.in_features)
        self.spread = isinstance(network.conv1, nn.Conv2d)
        network.avgpool = network.fc = nn.Identity()
        width = self.maps * (2 if self.spread else 1)
        # The scale of deep features depends on the seed; without the layer norm the linear layer would train slowly.
        self.scaled = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        # Zero, because a small run has too few steps to unlearn random weights (docs/experiments.md).
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
    """Build a ResNet (He 2016) in 2 or 3 dimensions with `width` feature maps in its first stage and batch norm.

    It has batch norm also without pretrained weights: with group norm, a small run hardly trained the convolutions
    (docs/experiments.md). `size` "published" has a first convolution of 7 voxels with stride 2, then pooling. "small"
    has one of 3 voxels without pooling, with stride 2 in 3D alone, where resolution costs most.
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
    """Channels that do not depend on the scanner's gain, and the lesion: `(n, channels, z, y, x)`.

    The first uptake is divided by its mean in the lesion, later changes by the uptake of the same voxel. The
    pre-contrast channel is left out, because fat is dark at one hospital and bright at another. The last channel is 1
    inside the lesion.
    """
    image, lesion = x[:, :-1], (x[:, -1:] > 0).to(x.dtype)
    uptake = image[:, 1:2]
    count = lesion.flatten(1).sum(dim=1).clamp(min=1)
    level = ((uptake * lesion).flatten(1).sum(dim=1) / count).clamp(min=_LEAST_UPTAKE)[:, None, None, None, None]
    late = (_LATE_GAIN * image[:, 2:] / torch.maximum(uptake, 0.3 * level)).clamp(-4.0, 4.0)
    return torch.cat([(uptake / level).clamp(-1.0, 3.0), late, lesion], dim=1)
