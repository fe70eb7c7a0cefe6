"""The subtype ensemble: three 2D ResNets on the planes through the lesion and one 3D ResNet, scores averaged.

Wang et al., Radiology: Imaging Cancer 2025;7(3): pretrained 2D ResNets on the orthogonal planes, a 3D ResNet from a
random start. The networks are He 2016's as MONAI builds them. Ours beside theirs: the uptake channels are read relative
to the lesion's own, and each branch adds a linear term in what is measured of the lesion (`lesion_measures`).
"""

from __future__ import annotations

import math

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from shared.config_sections import SubtypeConfig
from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.pretrained import load_pretrained_resnet2d
from shared.models.radiomics import RadiomicsLinear

PLANES = ("axial", "coronal", "sagittal")
BRANCHES = (*PLANES, "volume")
CLASSES = 4
_SLICES = (
    -1 / 4,
    -1 / 8,
    0.0,
    1 / 8,
    1 / 4,
)  # of the box's side from its middle: parallel planes, their features averaged
_LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_LEAST_UPTAKE = 0.2
_LATE_GAIN = 2.0  # late changes are a fifth of the first uptake; this brings them near 1


class EnsembleResNet(nn.Module):
    """Four branches that share nothing; each is trained, and can be read, as a network of its own.

    Parameters
    ----------
    channels_in
        Image channels of the patch: pre-contrast, first uptake, later changes.
    config
        Depths, widths and where pretrained 2D weights come from. With `size="published"` stems have stride 2 and batch
        norm, as the pretrained weights need; small networks keep the resolution at first and use group norm.

    Raises
    ------
    ConfigError
        Pretrained weights are asked for and not there.

    """

    def __init__(self, channels_in: int, config: SubtypeConfig) -> None:
        super().__init__()
        seen = channels_in + 1
        self.branches = nn.ModuleDict()
        for name in BRANCHES:
            flat = name in PLANES
            depth, width = (
                (config.plane_depth, config.plane_width) if flat else (config.volume_depth, config.volume_width)
            )
            network = build_resnet(2 if flat else 3, depth, width, seen, size=config.size)
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
        measures = lesion_measures(x)
        logits = []
        for axis, name in enumerate(PLANES):
            middle, side = (image.shape[2 + axis] - 1) / 2, image.shape[2 + axis]
            # `round` goes to even numbers: three planes would lie unevenly.
            parts = [image.select(2 + axis, math.floor(middle + share * side + 0.5)) for share in _SLICES]
            logits.append(self.branches[name](parts, measures))
        return [*logits, self.branches["volume"]([image], measures)]


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
        width = int(network.fc.in_features)
        network.fc = nn.Identity()
        # Deep features of a few patients differ in scale by seed; the linear layer should not have to wait for that.
        self.scaled = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        self.measured = RadiomicsLinear(measure_count(channels_in), classes) if measured else None

    def forward(self, images: list[Tensor], measures: Tensor) -> Tensor:
        """Logits `(n, classes)`, the mean over several images of the same lesions."""
        stacked = self.network(torch.cat(images))
        features = stacked.reshape(len(images), -1, stacked.shape[1]).mean(dim=0)
        logits: Tensor = self.head(self.dropout(self.scaled(features)))
        if self.measured is not None:
            logits = logits + self.measured(measures)[0]
        return logits


def build_resnet(dimensions: int, depth: int, width: int, channels_in: int, *, size: str) -> ResNet:
    """A ResNet of He 2016 with `width` feature maps in its first stage, in 2 or 3 dimensions.

    `size` "published": 7-voxel stem of stride 2, pooling, batch norm. "small": 3-voxel stem, no pooling, group norm; a
    3D one has a stem of stride 2 all the same, as resolution costs most there.
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
        norm=("group", {"num_groups": 4}) if small else "batch",
    )


def relative_channels(x: Tensor) -> Tensor:
    """Channels that no gain of the scanner changes, and the lesion: `(n, channels + 1, z, y, x)`.

    The first uptake is divided by its mean in the lesion, later changes by the uptake where they are; pre-contrast
    stays as the plan scaled it. The last channel is 1 inside the lesion.
    """
    image, lesion = x[:, :-1], (x[:, -1:] > 0).to(x.dtype)
    uptake = image[:, 1:2]
    count = lesion.flatten(1).sum(dim=1).clamp(min=1)
    level = ((uptake * lesion).flatten(1).sum(dim=1) / count).clamp(min=_LEAST_UPTAKE)[:, None, None, None, None]
    late = (_LATE_GAIN * image[:, 2:] / torch.maximum(uptake, 0.3 * level)).clamp(-4.0, 4.0)
    return torch.cat([image[:, :1], (uptake / level).clamp(-1.0, 3.0), late, lesion], dim=1)
