"""One 3D network a receptor: ER with SE-ResNet50, PR with ResNet34, HER2 with SE-ResNeXt101.

Shiri et al., Mol Imaging Biol 2025, who read four phases in a box of 128 x 128 x 68 voxels around the tumour. The
architectures are He 2016 (ResNet), Xie 2017 (ResNeXt, 32 groups of width 4) and Hu 2018 (squeeze and excitation,
reduction 16), in three dimensions as MONAI builds them.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.blocks import Convolution, SEResNetBottleneck, SEResNeXtBottleneck
from monai.networks.nets import ResNet, SEResNet50, SEResNext101, resnet34
from torch import Tensor, nn

from shared.models.norms import to_group_norm

Size = Literal["published", "small"]


class ReceptorResNets(nn.Module):
    """Logits of ER, PR and HER2 from a lesion patch, by three networks that share nothing.

    Parameters
    ----------
    channels_in
        Image channels of the patch, without the distance to the lesion's surface.
    size
        `"published"`: the papers' depths and widths with batch norm, 48.8 M (ER), 63.6 M (PR) and 52.3 M (HER2)
        parameters for four phases. Stems have stride 2 as in He 2016, so a side shrinks 32-fold.
        `"small"`: one block a stage, 16-wide stems, group norm, at most 0.44 M parameters a network; a side shrinks
        16-fold, so that a patch of 32 voxels still ends in 2 x 2 x 2.

    Notes
    -----
    Parameters and buffers are named `er.*`, `pr.*` and `her2.*`: the server averages each network only over the sites
    that have its label. All three run at every site; where a label is missing, its network has no gradient, and the
    running statistics its batch norm gathered there stay out of the average with the rest of it.

    The networks see the lesion's mask as one channel more than the image: the published input is cut around that mask,
    and a patch of fixed size does not otherwise say how large the lesion is.

    """

    def __init__(self, channels_in: int, *, size: Size) -> None:
        super().__init__()
        seen = channels_in + 1
        self.er: nn.Module
        self.pr: nn.Module
        self.her2: nn.Module
        if size == "published":
            self.er = SEResNet50(spatial_dims=3, in_channels=seen, num_classes=1)
            # MONAI's default is stride 1 and a bias before the shortcut's batch norm: neither is He's.
            self.pr = resnet34(
                spatial_dims=3, n_input_channels=seen, conv1_t_stride=2, bias_downsample=False, num_classes=1
            )
            self.her2 = SEResNext101(spatial_dims=3, in_channels=seen, num_classes=1)
        else:
            self.er = SmallSENet(seen, SEResNetBottleneck, planes=(8, 16, 32, 64), groups=1)
            self.pr = ResNet(
                "basic",
                [1, 1, 1, 1],
                [16, 32, 48, 64],
                spatial_dims=3,
                n_input_channels=seen,
                conv1_t_size=3,
                conv1_t_stride=2,
                no_max_pool=True,
                bias_downsample=False,
                num_classes=1,
            )
            self.her2 = SmallSENet(seen, SEResNeXtBottleneck, planes=(16, 32, 64, 128), groups=8)
            for network in (self.er, self.pr, self.her2):
                to_group_norm(network)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the logits of ER, PR and HER2, `(n, 1)` each.

        Parameters
        ----------
        x
            Patches `(n, channels_in + 1, z, y, x)`; the last channel is the signed distance to the lesion's surface in
            mm, positive inside.

        Raises
        ------
        ValueError
            In training, one published patch so small (32 voxels or fewer along every side) that batch norm is left
            with a single voxel.

        """
        seen = torch.cat([x[:, :-1], (x[:, -1:] > 0).to(x.dtype)], dim=1)
        return [self.er(seen), self.pr(seen), self.her2(seen)]


class SmallSENet(nn.Module):
    """A squeeze-and-excitation network of one MONAI block a stage.

    MONAI's `SENet` fixes its widths at 64 to 512 planes and shrinks a side 32-fold, too wide and too coarse for patches
    of 32 voxels on a CPU; its blocks are the same here.

    Parameters
    ----------
    channels_in
        Channels of the input.
    block
        Bottleneck with squeeze and excitation; it widens its planes four times.
    planes
        Planes of each stage; every stage but the first halves the resolution.
    groups
        Groups of the 3x3x3 convolution: 1 for SE-ResNet, more for SE-ResNeXt, which is `planes / 16 * groups` wide.

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
        before = STEM_CHANNELS
        self.stem = Convolution(3, channels_in, before, strides=2, kernel_size=3, act="relu", norm="batch", bias=False)
        stages: list[nn.Module] = []
        for index, width in enumerate(planes):
            stride, after = 1 if index == 0 else 2, width * block.expansion
            shortcut = Convolution(3, before, after, strides=stride, kernel_size=1, act=None, norm="batch", bias=False)
            stages.append(block(3, before, width, groups, SE_REDUCTION, stride, shortcut))
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels_in, z, y, x)` to one logit `(n, 1)`."""
        features: Tensor = self.stages(self.stem(x))
        logit: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logit


STEM_CHANNELS = 16

SE_REDUCTION = 4
"""Ratio of the squeeze: Hu 2018's 16 would leave two rectifiers in a narrow stage, which may both start dead."""
