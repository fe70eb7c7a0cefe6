"""One 3D network per receptor: SE-ResNet50 for ER, ResNet34 for PR, SE-ResNeXt101 for HER2.

Shiri et al., Mol Imaging Biol 2025, used four phases in a box of 128 x 128 x 68 voxels around the tumour. The
architectures are ResNet (He 2016), ResNeXt with 32 groups of width 4 (Xie 2017), and squeeze and excitation with
reduction 16 (Hu 2018), built in three dimensions by MONAI.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.blocks import Convolution, SEResNetBottleneck, SEResNeXtBottleneck
from monai.networks.nets import ResNet, SEResNet50, SEResNext101, resnet34
from torch import Tensor, nn

from shared.models.norms import to_group_norm

Size = Literal["published", "small"]
_STEM_CHANNELS = 16
_SE_REDUCTION = 4  # of the squeeze: Hu 2018's 16 would leave two units in a narrow stage, which may both start dead


class ReceptorResNets(nn.Module):
    """Logits of ER, PR and HER2 from a lesion patch, by three networks that share no parameters.

    Parameters
    ----------
    channels_in
        Image channels of the patch, without the distance to the lesion's surface.
    size
        `"published"`: depths and widths of the papers with batch norm; 48.8 M (ER), 63.6 M (PR) and 52.3 M (HER2)
        parameters for four phases. The first convolution has stride 2 as in He 2016; a side is reduced 32-fold.
        `"small"`: one block per stage, 16 feature maps at first, group norm, at most 0.44 M parameters per network. A
        side is reduced 16-fold, so a patch of 32 voxels still ends in 2 x 2 x 2.

    Notes
    -----
    Parameters and buffers are named `er.*`, `pr.*` and `her2.*`, because the server aggregates each network only over
    the sites that have its label. All three run at every site. A network without its label has no gradient, and its
    running statistics from there are not aggregated either.

    The networks read the mask of the lesion as an additional channel: the published input is cut around the mask, while
    a patch of fixed size would not show how large the lesion is.

    """

    def __init__(self, channels_in: int, *, size: Size) -> None:
        super().__init__()
        channels = channels_in + 1
        self.er: nn.Module
        self.pr: nn.Module
        self.her2: nn.Module
        if size == "published":
            self.er = SEResNet50(spatial_dims=3, in_channels=channels, num_classes=1)
            # He 2016 has stride 2 and no bias in the shortcut; MONAI's defaults differ.
            self.pr = resnet34(
                spatial_dims=3, n_input_channels=channels, conv1_t_stride=2, bias_downsample=False, num_classes=1
            )
            self.her2 = SEResNext101(spatial_dims=3, in_channels=channels, num_classes=1)
        else:
            self.er = SmallSENet(channels, SEResNetBottleneck, planes=(8, 16, 32, 64), groups=1)
            self.pr = ResNet(
                "basic",
                [1, 1, 1, 1],
                [16, 32, 48, 64],
                spatial_dims=3,
                n_input_channels=channels,
                conv1_t_size=3,
                conv1_t_stride=2,
                no_max_pool=True,
                bias_downsample=False,
                num_classes=1,
            )
            self.her2 = SmallSENet(channels, SEResNeXtBottleneck, planes=(16, 32, 64, 128), groups=8)
            for network in (self.er, self.pr, self.her2):
                to_group_norm(network)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the logits of ER, PR and HER2, `(n, 1)` each.

        The last channel of patches `(n, channels_in + 1, z, y, x)` is the signed distance to the lesion's surface in
        mm, positive inside.

        Raises
        ------
        ValueError
            In training at the published size, a batch of one patch of at most 32 voxels per side, which leaves batch
            norm with a single voxel.

        """
        image = torch.cat([x[:, :-1], (x[:, -1:] > 0).to(x.dtype)], dim=1)
        return [self.er(image), self.pr(image), self.her2(image)]


class SmallSENet(nn.Module):
    """Squeeze-and-excitation network with one of MONAI's blocks per stage.

    MONAI's `SENet` has fixed widths of 64 to 512 and reduces a side 32-fold, which is too wide and too coarse for
    patches of 32 voxels on a CPU.

    Every stage but the first halves the resolution; a block's output has four times as many planes as the stage. The
    3x3x3 convolution has 1 group for SE-ResNet, more for SE-ResNeXt, which is `planes / 16 * groups` wide.
    """

    def __init__(
        self,
        channels_in: int,
        block: type[SEResNetBottleneck | SEResNeXtBottleneck],
        *,
        planes: tuple[int, ...],
        groups: int,
    ) -> None:
        super().__init__()
        before = _STEM_CHANNELS
        self.stem = Convolution(3, channels_in, before, strides=2, kernel_size=3, act="relu", norm="batch", bias=False)
        stages: list[nn.Module] = []
        for index, width in enumerate(planes):
            stride, after = 1 if index == 0 else 2, width * block.expansion
            shortcut = Convolution(3, before, after, strides=stride, kernel_size=1, act=None, norm="batch", bias=False)
            stages.append(block(3, before, width, groups, _SE_REDUCTION, stride, shortcut))
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, channels_in, z, y, x)` to one logit `(n, 1)`."""
        features: Tensor = self.stages(self.stem(x))
        logit: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logit
