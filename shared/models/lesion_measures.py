"""What radiologists and radiomics measure of a lesion, as a layer: uptake by region, wash-out, size and shape.

A network that learns from a hundred patients does not find these by itself (docs/experiments.md): given to it, they
bring it to where radiomics is, and its convolutions have the rest to explain.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RIM_MM = 4.0
"""Depth to which the rim reaches; deeper voxels are core."""
SURROUND_MM = 6.0
TAILS = (0.1, 0.5, 0.9)
"""Quantiles of the first uptake within the lesion, over its mean."""
_LEAST_UPTAKE = 0.1  # in the channels' own scale: below it ratios say nothing
_TINY = 1e-6
_STEEP = 0.8  # quantile: hardly any slope is above an edge, and many are below it where distances are flat


def measure_count(channels: int) -> int:
    """How many measures `lesion_measures` takes of patches with this many image channels."""
    return 5 * channels + 2 * max(0, channels - 2) + 14


def lesion_measures(x: Tensor) -> Tensor:
    """Measure the lesions of patches.

    Parameters
    ----------
    x
        `(n, channels + 1, z, y, x)`: image channels (pre-contrast, first uptake, later changes), and last the signed
        distance to the lesion's surface in mm, positive inside.

    Returns
    -------
    float32 `(n, measure_count(channels))`: means in lesion, core, rim and surroundings, and the standard deviation in
    the lesion, of each channel; later changes over the first uptake in lesion and rim; then core over rim, uptake,
    signal around the lesion over that in it (logarithms); quantiles of the uptake; volume in mm3, surface over
    volume^(2/3), depth over radius (logarithms); two ratios of variances along the axes (logarithms); spread and
    kurtosis of the mass about its centre; box over volume. Finite for any lesion.

    """
    # Half precision would round a sum over thousands of voxels, and a centre of mass to a fraction of a voxel.
    with torch.autocast(x.device.type, enabled=False):
        return _measures(x[:, :-1].float(), x[:, -1].float())


def _measures(image: Tensor, distance: Tensor) -> Tensor:
    step = voxel_edge(distance)
    deepest = distance.flatten(1).amax(dim=1).clamp(min=_TINY)
    lesion = distance > 0
    core, rim = distance > RIM_MM, lesion & (distance <= RIM_MM)
    around = (distance <= 0) & (distance > -SURROUND_MM)
    regions = torch.stack([lesion, core, rim, around], dim=1).float()
    means = _means(image, regions)
    whole, centre, border, outside = means.unbind(dim=1)
    spread = (_means(image.square(), regions[:, :1])[:, 0] - whole.square()).clamp(min=_TINY).sqrt()
    uptake = [part[:, 1].clamp(min=_LEAST_UPTAKE) for part in (whole, centre, border)]
    later = [(part[:, 2:] / level[:, None]).clamp(-2, 2) for part, level in ((whole, uptake[0]), (border, uptake[2]))]
    ratios = [uptake[1].log() - uptake[2].log(), uptake[0].log()]
    ratios.append(outside[:, 0].clamp(min=_LEAST_UPTAKE).log() - whole[:, 0].clamp(min=_LEAST_UPTAKE).log())
    relative = (image[:, 1] / uptake[0][:, None, None, None]).flatten(1).masked_fill(~lesion.flatten(1), math.nan)
    tails = torch.nanquantile(relative, torch.tensor(TAILS, device=image.device), dim=1).T.nan_to_num(1.0)
    shape = _shape(distance, step, deepest)
    return torch.cat([means.flatten(1), spread, *later, torch.stack(ratios, dim=1), tails, shape], dim=1)


def voxel_edge(distance: Tensor) -> Tensor:
    """Edge of the voxels, mm `(n,)`, of signed distances `(n, z, y, x)` in mm on isotropic grids.

    A distance grows by 1 mm a mm (the eikonal equation), so its slope a voxel is the voxel's edge; it is less where
    distances are clipped, in the middle of the lesion, and beyond the border of a patch that was shrunk. The edge thus
    follows every scaling and turn that augmentation does.
    """
    slopes = _steepness(distance).flatten(1)
    clipped = distance.flatten(1).abs() >= distance.flatten(1).abs().amax(dim=1, keepdim=True) - 1.0
    found = slopes.masked_fill(clipped, math.nan).nanquantile(_STEEP, dim=1)
    return torch.nan_to_num(found, nan=1.0).clamp(min=0.1)


def _means(image: Tensor, regions: Tensor) -> Tensor:
    """Mean of each channel in each region, `(n, region, channel)`; a region without a voxel takes the lesion's mean."""
    total = torch.einsum("nczyx,nrzyx->nrc", image, regions)
    count = regions.flatten(2).sum(dim=2)[..., None]
    found = total / count.clamp(min=1)
    return torch.where(count > 0, found, found[:, :1])


def _shape(distance: Tensor, step: Tensor, deepest: Tensor) -> Tensor:
    """Eight measures of the outline alone, `(n, 8)`."""
    lesion = (distance > 0).float()
    voxels = lesion.flatten(1).sum(dim=1).clamp(min=1)
    # Shares of voxels: whole ones would make the volume jump when a patch is turned.
    share = (distance / step[:, None, None, None] + 0.5).clamp(0, 1)
    volume = share.flatten(1).sum(dim=1).clamp(min=1) * step**3
    surface = _surface(distance, step)
    radius = (0.75 * volume / math.pi) ** (1 / 3)
    axes = [torch.arange(size, dtype=torch.float32, device=distance.device) for size in distance.shape[1:]]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    weight = lesion.flatten(1) / voxels[:, None]
    offset = where[None] - (weight @ where.T)[..., None]
    covariance = torch.einsum("nv,niv,njv->nij", weight, offset, offset) + 0.1 * torch.eye(3, device=distance.device)
    extent = torch.linalg.eigvalsh(covariance).clamp(min=_TINY)
    squared = offset.square().sum(dim=1)
    second = (weight * squared).sum(dim=1).clamp(min=_TINY)
    fourth = (weight * squared.square()).sum(dim=1)
    return torch.stack(
        [
            volume.log(),
            surface.log() - volume.log() * (2 / 3),
            deepest.log() - radius.log(),
            (extent[:, 2] / extent[:, 0]).log(),
            (extent[:, 1] / extent[:, 0]).log(),
            second.log() - 2 * (radius / step).log(),
            fourth / second.square(),
            (_box_voxels(lesion) / voxels).log(),
        ],
        dim=1,
    )


def _surface(distance: Tensor, step: Tensor) -> Tensor:
    """Area of each outline, mm2 `(n,)`: all that a ramp across it rises, which does not depend on how it is turned."""
    ramp = 0.5 * (distance / step[:, None, None, None]).clamp(-1, 1)
    return _steepness(ramp).flatten(1).sum(dim=1).clamp(min=1) * step**2


def _steepness(values: Tensor) -> Tensor:
    """Rise of `(n, z, y, x)` a voxel along its steepest direction, the same shape."""
    slopes = torch.stack(torch.gradient(values, dim=(1, 2, 3)))
    # `norm` over the first dimension takes 30 times as long on CPU.
    return slopes.square().sum(dim=0).clamp(min=_TINY**2).sqrt()


def _box_voxels(lesion: Tensor) -> Tensor:
    """Voxels of the smallest upright box around each lesion of `(n, z, y, x)`, `(n,)`."""
    sides = []
    for axis in (1, 2, 3):
        others = [item for item in (1, 2, 3) if item != axis]
        sides.append(lesion.amax(dim=others).sum(dim=1).clamp(min=1))
    return sides[0] * sides[1] * sides[2]
