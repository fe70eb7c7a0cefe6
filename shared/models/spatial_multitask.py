"""Spatial multi-task network: ER, PR, HER2 and Ki-67 from one post-contrast phase.

It follows Zeng et al. 2026 (arXiv 2601.07001), whose abstract names the parts: a feature extractor with multi-scale
spatial attention, weights of the regions (tumour core, rim and surrounding tissue), shared representations, and one
branch per biomarker. Sizes, formulas and pooling are ours, and small enough for a few dozen patients per site.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.norms import norm3d
from shared.models.res_unet import ResidualBlock

MARKERS = ("er", "pr", "her2", "ki67")
"""Names of the heads, in the order of the outputs."""

KI67_UNIT = 10.0
"""Percentage points in one unit of the Ki-67 output, so that its errors are near 1 like those of the other heads."""

REGIONS = ("core", "rim", "surroundings")

RIM_MM, SURROUNDINGS_MM = 4.0, 10.0
"""Depth of the rim below the lesion's surface, the core lies deeper; width of the surroundings outside the surface."""

SHARED_FEATURES = 32

SOFTNESS_MM = 0.5
"""Borders rise from 10% to 90% within 2.2 mm, about a voxel: sharper ones alias, softer ones mix the regions."""

PRIOR_MM3 = 64.0
"""Volume of the neighbourhood that is added to each region, 8 voxels of 2 mm; an empty region consists of it alone."""

KI67_START = 2.0
"""Initial bias of the Ki-67 head: 20%, the usual cut-off, so that the first steps are not spent on the mean."""


class SpatialAttention(nn.Module):
    """Weight voxels by a map from the mean and maximum of the features (Woo 2018, CBAM) and from the regions.

    It differs from CBAM: 3x3x3 instead of 7x7 convolutions, the three regions as further inputs, and weights from 0 to
    2 that start at 1, so that attention has no effect before it is trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2 + len(REGIONS), 1, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # the bias exists by default

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Weight `features (n, c, z, y, x)`, given `regions (n, 3, z, y, x)`; the shape of the features is kept."""
        statistics = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True), regions], dim=1)
        return features * (2 * torch.sigmoid(self.conv(statistics)))


class SpatialMultitask(nn.Module):
    """ER, PR and HER2 logits and Ki-67 from a lesion patch.

    Parameters
    ----------
    channels_in
        Image channels of a patch, without the distance; at least 2.
    channels
        Feature maps per scale; each scale after the first halves the grid.
    spacing_mm
        The patch's isotropic spacing, for volumes in mm^3.

    Raises
    ------
    ValueError
        A patch without a subtraction.

    Notes
    -----
    The paper reads one post-contrast image. A patch has pre-contrast (channel 0) and first post minus pre (channel 1)
    on two scales, so their sum is no post-contrast image. This network therefore reads both as two channels, which is
    more than the paper's input. Later phases are never read.

    A region's weight depends on what is seen in it, by case: a fixed one would be a factor of the columns of the linear
    layer behind it, and change nothing.

    Convolutions see only the image; the outline defines the regions. Group norm removes the level of enhancement, so
    the image itself is pooled beside the features, and the volumes of the regions are added, as radiomics would do.

    The finest scale is a single convolution, because a residual block there would double the time of the network.

    `log_variance` holds one log-variance per marker (Kendall 2018) for `masked_losses.multitask_loss`; `forward` does
    not use it.

    """

    def __init__(self, channels_in: int, *, channels: tuple[int, ...] = (16, 32, 64), spacing_mm: float = 2.0) -> None:
        super().__init__()
        if channels_in < 2:  # noqa: PLR2004 - pre and the first subtraction
            raise ValueError(f"{channels_in} image channel: the pre-contrast image and a subtraction are needed")
        self.channels_in, self.spacing_mm = channels_in, spacing_mm
        stem = nn.Conv3d(2, channels[0], 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([nn.Sequential(stem, norm3d("group", channels[0]), nn.LeakyReLU(0.01))])
        self.blocks.extend(ResidualBlock(fine, coarse, norm="group", stride=2) for fine, coarse in pairwise(channels))
        self.attention = nn.ModuleList(SpatialAttention() for _ in channels)
        # One row per pooled grid: the image, then each scale. From zero, so that all regions start alike.
        self.region_logits = nn.Parameter(torch.zeros(1 + len(channels), len(REGIONS)))
        self.region_scores = nn.ParameterList(nn.Parameter(torch.zeros(2 * maps)) for maps in (2, *channels))
        measured = len(REGIONS) * (2 * (2 + sum(channels)) + 1)
        self.shared = nn.Sequential(nn.Linear(measured, SHARED_FEATURES), nn.LeakyReLU(0.01))
        self.heads = nn.ModuleDict({marker: nn.Linear(SHARED_FEATURES, 1) for marker in MARKERS})
        nn.init.constant_(self.heads["ki67"].bias, KI67_START)  # type: ignore[arg-type]  # ModuleDict forgets the type
        self.log_variance = nn.ParameterDict({marker: nn.Parameter(torch.zeros(())) for marker in MARKERS})

    def region_weights(self, grid: int, statistics: Tensor) -> Tensor:
        """Weights `(n, 3)` of core, rim and surroundings by what is seen in them; a row sums to 3, at first three ones.

        `statistics` are `region_statistics` `(n, 3, 2 c)` of a pooled grid: 0 is the image, then come the scales.
        """
        return len(REGIONS) * torch.softmax(statistics @ self.region_scores[grid] + self.region_logits[grid], dim=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of ER, PR and HER2, then Ki-67 in units of `KI67_UNIT` percentage points; each `(n, 1)`.

        Patches are `(n, channels_in + 1, z, y, x)` of any sides, the last channel the signed distance in mm.

        Raises
        ------
        ValueError
            The number of channels is not `channels_in + 1`.

        """
        if x.shape[1] != self.channels_in + 1:
            raise ValueError(f"{x.shape[1]} channels: expected {self.channels_in} of the image and the distance")
        out, regions = x[:, :2], memberships(x[:, -1:])
        voxel = self.spacing_mm**3
        volumes = torch.log1p(regions.sum((2, 3, 4)) * voxel / PRIOR_MM3)
        measured = [region_statistics(out, regions, PRIOR_MM3 / voxel)]
        for level, (block, attention) in enumerate(zip(self.blocks, self.attention, strict=True)):
            if level > 0:
                # The same windows as those of the strided convolution keep regions and features aligned.
                regions = F.avg_pool3d(regions, 3, stride=2, padding=1, count_include_pad=False)
                voxel *= 8
            out = attention(block(out), regions)
            measured.append(region_statistics(out, regions, PRIOR_MM3 / voxel))
        measured = [self.region_weights(grid, part)[..., None] * part for grid, part in enumerate(measured)]
        shared = self.shared(torch.cat([*(item.flatten(1) for item in measured), volumes], dim=1))
        return [self.heads[marker](shared) for marker in MARKERS]


def memberships(distance: Tensor) -> Tensor:
    """Membership `(n, 3, z, y, x)` of each voxel in core, rim and surroundings.

    Memberships are differences of three sigmoids of the signed distance `(n, 1, z, y, x)` to the lesion's surface, mm,
    positive inside: never negative, and their sum is at most 1.
    """
    borders = (RIM_MM, 0.0, -SURROUNDINGS_MM)
    deeper, inside, near = (torch.sigmoid((distance - border) / SOFTNESS_MM) for border in borders)
    return torch.cat([deeper, inside - deeper, near - inside], dim=1)


def region_statistics(features: Tensor, regions: Tensor, prior: float) -> Tensor:
    """Mean and standard deviation of features `(n, c, z, y, x)` within soft regions `(n, r, z, y, x)`: `(n, r, 2 c)`.

    `prior` voxels of the whole neighbourhood (all regions together) are added to every region. A lesion too small for a
    core thus has the statistics of its neighbourhood there instead of a division by zero, and gradients stay bounded.
    Means come first; without any region both are near 0.
    """
    flat, member = features.flatten(2).transpose(1, 2), regions.flatten(2)
    near = member.sum(1, keepdim=True)
    lent = near / (near.sum(2, keepdim=True) + prior)
    share = (member + prior * lent) / (member.sum(2, keepdim=True) + prior)
    mean = share @ flat
    # Shares sum to at most 1, so the variance can be negative only by rounding.
    variance = (share @ flat.square() - mean.square()).clamp(min=0)
    return torch.cat([mean, torch.sqrt(variance + _VARIANCE_FLOOR) - math.sqrt(_VARIANCE_FLOOR)], dim=2)


_VARIANCE_FLOOR = 1e-4  # keeps the slope of the root below 50
