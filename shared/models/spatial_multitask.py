"""Spatial multi-task network: ER, PR, HER2 and Ki-67 from one post-contrast phase.

After Zeng et al. 2026 (arXiv 2601.07001), whose abstract names the parts: a deep feature extractor with multi-scale
spatial attention, a region-of-interest weighting over tumour core, rim and surrounding tissue, shared representations
and one branch a biomarker. Sizes, formulas and the pooling below are ours, kept small for a few dozen patients a site.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.norms import Norm, norm3d
from shared.models.res_unet import ResidualBlock

MARKERS = ("er", "pr", "her2", "ki67")
"""The outputs' order, and the names of the heads."""

KI67_UNIT = 10.0
"""Percentage points in one unit of the Ki-67 output: errors are then near 1, as those of the other heads are."""

REGIONS = ("core", "rim", "surroundings")

CLIP_MM = 20.0
"""Patches carry the distance up to here; a border beyond it would not be seen."""

SHARED_FEATURES = 32

SOFTNESS_MM = 0.5
"""A border passes from 10% to 90% over 2.2 mm, about a voxel: sharper would alias, softer would mix the regions."""

PRIOR_MM3 = 64.0
"""Volume of neighbourhood lent to each region, 8 voxels of 2 mm: what an empty region is then pooled from."""

KI67_START = 2.0
"""The Ki-67 head starts at 20%, the usual cut-off: the first steps are not spent on the mean."""


class SpatialAttention(nn.Module):
    """Weigh places by one map, from the features' mean and maximum (Woo 2018, CBAM) and where each place lies.

    Ours: 3x3x3 instead of 7x7 in the plane, the three memberships beside the two statistics, and a map in 0..2 that
    starts at 1, so that attention must earn its effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2 + len(REGIONS), 1, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # the bias exists by default

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """`features (n, c, z, y, x)` and `regions (n, 3, z, y, x)` to weighted features of the first shape."""
        seen = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True), regions], dim=1)
        return features * (2 * torch.sigmoid(self.conv(seen)))


class SpatialMultitask(nn.Module):
    """ER, PR and HER2 logits and Ki-67 from a lesion patch.

    Parameters
    ----------
    channels_in
        Image channels of a patch, without the distance; at least 2.
    channels
        Feature maps a scale; each scale after the first halves the grid.
    rim_mm
        Depth of the rim under the lesion's surface; the core lies deeper.
    surround_mm
        Width of the surroundings outside the surface.
    norm
        Normalisation of the backbone.
    single_channel
        Read channel 1 alone.
    spacing_mm
        The patch's isotropic spacing, for volumes in mm^3.

    Raises
    ------
    ValueError
        A patch without a subtraction, or a border where the distance is clipped.

    Notes
    -----
    Our deviation: the paper reads one post-contrast image. A patch holds pre-contrast (channel 0) and first post minus
    pre (channel 1) on two scales, so their sum is no post-contrast image. We read both as two channels of one phase
    pair, which is more than the paper's input. `single_channel=True` reads the subtraction alone. Later phases are
    never read.

    Convolutions see the image only; the outline enters by regions. Group norm takes the patch's level of enhancement
    away, so the image itself is pooled beside the features, and volumes are added: what radiomics would measure.

    The finest scale is one convolution: a residual block there would double the network's time.

    `log_variance` holds one log-variance a marker (Kendall 2018) for `masked_losses.multitask_loss`; `forward` leaves
    it alone.

    """

    def __init__(
        self,
        channels_in: int,
        *,
        channels: tuple[int, ...] = (16, 32, 64),
        rim_mm: float = 4.0,
        surround_mm: float = 10.0,
        norm: Norm = "group",
        single_channel: bool = False,
        spacing_mm: float = 2.0,
    ) -> None:
        super().__init__()
        if channels_in < 2:  # noqa: PLR2004 - pre and the first subtraction
            raise ValueError(f"{channels_in} image channel: the pre-contrast image and a subtraction are needed")
        reach = CLIP_MM - 4 * SOFTNESS_MM
        if not (0 < rim_mm <= reach and 0 < surround_mm <= reach):
            raise ValueError(f"rim {rim_mm} mm and surroundings {surround_mm} mm must lie above 0 and up to {reach} mm")
        self.channels_in, self.single_channel, self.spacing_mm = channels_in, single_channel, spacing_mm
        self.rim_mm, self.surround_mm = rim_mm, surround_mm
        image = 1 if single_channel else 2
        stem = nn.Conv3d(image, channels[0], 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([nn.Sequential(stem, norm3d(norm, channels[0]), nn.LeakyReLU(0.01))])
        self.blocks.extend(ResidualBlock(fine, coarse, norm=norm, stride=2) for fine, coarse in pairwise(channels))
        self.attention = nn.ModuleList(SpatialAttention() for _ in channels)
        # One row a pooled grid: the image, then each scale.
        self.region_logits = nn.Parameter(torch.zeros(1 + len(channels), len(REGIONS)))
        measured = len(REGIONS) * (2 * (image + sum(channels)) + 1)
        self.shared = nn.Sequential(nn.Linear(measured, SHARED_FEATURES), nn.LeakyReLU(0.01))
        self.heads = nn.ModuleDict({marker: nn.Linear(SHARED_FEATURES, 1) for marker in MARKERS})
        nn.init.constant_(self.heads["ki67"].bias, KI67_START)  # type: ignore[arg-type]  # ModuleDict forgets the type
        self.log_variance = nn.ParameterDict({marker: nn.Parameter(torch.zeros(())) for marker in MARKERS})

    def memberships(self, distance: Tensor) -> Tensor:
        """Share of each place in core, rim and surroundings.

        Differences of three sigmoids over the distance: never negative, and their sum never exceeds 1.

        Parameters
        ----------
        distance
            Signed distance to the lesion's surface in mm, positive inside, `(n, 1, z, y, x)`.

        Returns
        -------
        Tensor
            `(n, 3, z, y, x)`.

        """
        deeper, inside, near = (
            torch.sigmoid((distance - border) / SOFTNESS_MM) for border in (self.rim_mm, 0.0, -self.surround_mm)
        )
        return torch.cat([deeper, inside - deeper, near - inside], dim=1)

    def region_weights(self) -> Tensor:
        """Learned weights `(1 + scales, 3)` of core, rim and surroundings; each row sums to 3 and starts at ones."""
        return len(REGIONS) * torch.softmax(self.region_logits, dim=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Patches to outputs.

        Parameters
        ----------
        x
            `(n, channels_in + 1, z, y, x)`, the last channel the signed distance in mm. Any sides.

        Returns
        -------
        list[Tensor]
            Logits of ER, PR and HER2, then Ki-67 in units of `KI67_UNIT` percentage points; each `(n, 1)`.

        Raises
        ------
        ValueError
            The number of channels is not `channels_in + 1`.

        """
        if x.shape[1] != self.channels_in + 1:
            raise ValueError(f"{x.shape[1]} channels: expected {self.channels_in} of the image and the distance")
        out = x[:, 1:2] if self.single_channel else x[:, :2]
        regions = self.memberships(x[:, -1:])
        weights = self.region_weights()
        voxel = self.spacing_mm**3
        volumes = torch.log1p(regions.sum((2, 3, 4)) * voxel / PRIOR_MM3)
        measured = [weights[0, :, None] * region_statistics(out, regions, PRIOR_MM3 / voxel)]
        for level, (block, attention) in enumerate(zip(self.blocks, self.attention, strict=True)):
            if level > 0:
                # Windows of 3 lie where the strided convolution's do, so regions and features stay in register.
                regions = F.avg_pool3d(regions, 3, stride=2, padding=1, count_include_pad=False)
                voxel *= 8
            out = attention(block(out), regions)
            measured.append(weights[level + 1, :, None] * region_statistics(out, regions, PRIOR_MM3 / voxel))
        shared = self.shared(torch.cat([*(item.flatten(1) for item in measured), volumes], dim=1))
        return [self.heads[marker](shared) for marker in MARKERS]


def region_statistics(features: Tensor, regions: Tensor, prior: float) -> Tensor:
    """Mean and standard deviation of features within soft regions.

    Every region is lent `prior` voxels of the whole neighbourhood, all regions together. So a lesion too small for a
    core reads its neighbourhood there instead of dividing by nothing, and gradients stay bounded.

    Parameters
    ----------
    features
        `(n, c, z, y, x)`.
    regions
        Memberships `(n, r, z, y, x)`.
    prior
        Above 0, in voxels of this grid.

    Returns
    -------
    Tensor
        `(n, r, 2 c)`: means, then standard deviations. Without any region, both are near 0.

    """
    flat, member = features.flatten(2).transpose(1, 2), regions.flatten(2)
    near = member.sum(1, keepdim=True)
    lent = near / (near.sum(2, keepdim=True) + prior)
    share = (member + prior * lent) / (member.sum(2, keepdim=True) + prior)
    mean = share @ flat
    # Shares sum to at most 1, so the variance is negative by rounding only.
    variance = (share @ flat.square() - mean.square()).clamp(min=0)
    return torch.cat([mean, torch.sqrt(variance + _VARIANCE_FLOOR) - math.sqrt(_VARIANCE_FLOOR)], dim=2)


_VARIANCE_FLOOR = 1e-4  # the root's slope stays below 50
