"""3D ResU-Net: a U-Net of residual blocks with deep supervision.

Ronneberger 2015 (U-Net), He 2016 (residual blocks), Isensee 2021 (deep supervision and its weights). It is the network
of the lesion segmentation of Wang et al., Radiology: Imaging Cancer 2025;7(3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.config.sections import ModelConfig
from shared.models.norms import Norm, norm3d

LESION_LOGIT = -4.0
"""Logit of 2%, the share of a breast's box that a lesion usually fills."""
REFINE_CHANNELS = 8
"""Feature maps of the refinement at full resolution: more would cost more than the whole coarse network."""


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut; the first convolution and the shortcut have the stride."""

    def __init__(self, channels_in: int, channels: int, *, norm: Norm, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm3d(norm, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm3d(norm, channels)
        self.dropout = nn.Dropout3d(dropout) if dropout > 0 else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv3d(channels_in, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, channels_in, z, y, x)` to `(n, channels, z/stride, y/stride, x/stride)`."""
        out = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        out = self.norm2(self.conv2(self.dropout(out)))
        return F.leaky_relu(out + self.shortcut(x), 0.01)


class UpBlock(nn.Module):
    """Double the resolution, append the encoder's features, apply a residual block."""

    def __init__(self, channels_in: int, channels: int, *, norm: Norm) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(channels_in, channels, 2, stride=2)
        self.block = ResidualBlock(2 * channels, channels, norm=norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Combine `x`, which has half the resolution of `skip`, with `skip`, and return features at its resolution."""
        out: Tensor = self.block(torch.cat([self.up(x), skip], dim=1))
        return out


class ResUNet(nn.Module):
    """Logits of one or several structures (by default the lesion) in a DCE-MRI breast volume.

    `prior_logits` is the initial bias of the output of each structure: the logit of its usual share of the box, so that
    the first steps are not spent on learning the background.

    With `stem_stride=2` the network works at half resolution, which takes a sixth of the time. Two small convolutions
    at full resolution then refine its logits with the input, so that borders are sharper than those of an
    interpolation.
    """

    def __init__(
        self, channels_in: int, config: ModelConfig, prior_logits: tuple[float, ...] = (LESION_LOGIT,)
    ) -> None:
        super().__init__()
        widths, norm, outputs = config.channels, config.norm, len(prior_logits)
        self.multiple = config.stem_stride * 2 ** (len(widths) - 1)
        """Factor by which every side of the input must be divisible."""
        self.encoder = nn.ModuleList()
        before = channels_in
        for level, width in enumerate(widths):
            stride = config.stem_stride if level == 0 else 2
            self.encoder.append(ResidualBlock(before, width, norm=norm, stride=stride, dropout=config.dropout))
            before = width
        self.decoder = nn.ModuleList(
            UpBlock(deep, shallow, norm=norm) for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        supervised = min(config.deep_supervision, len(widths) - 1)
        self.heads = nn.ModuleList(nn.Conv3d(width, outputs, 1) for width in widths[:supervised])
        self.refine: nn.Module | None = None
        if config.stem_stride > 1:
            self.squeeze = nn.Conv3d(widths[0], REFINE_CHANNELS, 1)
            self.refine = nn.Sequential(
                nn.Conv3d(REFINE_CHANNELS + channels_in, REFINE_CHANNELS, 3, padding=1),
                nn.LeakyReLU(0.01),
                nn.Conv3d(REFINE_CHANNELS, outputs, 1),
            )
        self.apply(_initialise)
        for head in self.heads:
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]  # ModuleList forgets its members' type
            head.bias.data.copy_(torch.tensor(prior_logits))  # type: ignore[operator]  # the same

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits `(n, structure, z, y, x)` at full resolution, then of each supervised level, each at half the last.

        Raises
        ------
        ValueError
            A side of `x` is not a multiple of `self.multiple`.

        """
        if any(side % self.multiple for side in x.shape[2:]):
            raise ValueError(f"input sides {tuple(x.shape[2:])} must be multiples of {self.multiple}: pad the volume")
        features = []
        out = x
        for block in self.encoder:
            out = block(out)
            features.append(out)
        decoded = []
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            out = block(out, skip)
            decoded.append(out)
        logits: list[Tensor] = [head(item) for head, item in zip(self.heads, decoded[::-1], strict=False)]
        if self.refine is None:
            return logits
        coarse = _upsample(logits[0])
        fine: Tensor = coarse + self.refine(torch.cat([_upsample(self.squeeze(decoded[-1])), x], dim=1))
        return [fine, *logits]


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    """Initialise weights for leaky rectifiers (He 2015)."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
