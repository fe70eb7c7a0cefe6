"""Measures of a lesion as a layer: wash-out, rim, texture, surroundings, size and shape, as radiologists see them.

A network that learns from a hundred patients does not find them by itself (docs/experiments.md). With them it performs
like radiomics, and its convolutions can learn the rest. Signal is used only relative to the mean first uptake of the
lesion. The absolute signal before contrast and the absolute uptake depend on the scanner: they improved results at the
training centres, and cost twice as much at another centre.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHELLS = (0.0, 0.25, 0.5, 0.75)
"""Start of each shell of the lesion, from its surface (0) to its deepest voxel (1)."""
RINGS_MM = ((0.0, 2.0), (2.0, 4.0), (4.0, 8.0))
"""Rings around the lesion, by distance from its surface."""
TAILS = (0.1, 0.9)
"""Quantiles of the first uptake in the lesion that are measured, relative to its mean."""
_DARK, _DARK_MM = 0.5, 2.0  # deeper than this, less than this share of the mean uptake is necrosis or fluid
_LIT = 0.4  # share of the mean uptake below which a voxel is no part of the texture
_LEAST_UPTAKE = 0.1  # in the scale of the channels; below it ratios are meaningless
_MOST_LATE = 2.0  # bound of relative late changes
_USUAL_SLOPE = 0.08  # relative uptake per mm for a lesion too thin to have an inside (median of phantoms)
_INSIDE = 1.25  # depth of the inside in voxel edges; a multiple of 0.5 would coincide with the distances of voxels
_TINY = 1e-6
_STEEP = 0.8  # quantile of slopes: hardly any exceeds the voxel's edge, many are below it where distances are flat


def measure_count(channels: int, dimensions: int = 3) -> int:
    """Number of measures of volumes or planes with `channels` image channels."""
    later = max(0, channels - 2)
    late, profile, texture, surroundings = later + min(later, 1), 4, 2 + len(TAILS), 2 * len(RINGS_MM) - 1
    return late + profile + texture + surroundings + 4 + dimensions


def lesion_measures(x: Tensor, edge: Tensor | None = None) -> Tensor:
    """Measure the lesions in patches, or in planes through patches.

    Parameters
    ----------
    x
        `(n, channels + 1, z, y, x)` or `(n, channels + 1, row, column)`: image channels (pre-contrast, first uptake,
        later changes), and last the signed distance to the lesion's surface in mm, positive inside.
    edge
        Edge of the isotropic voxels, mm `(n,)`; estimated from the distances if not given. Planes need it, because
        distances to a surface in space grow by less than 1 mm per mm within a plane.

    Returns
    -------
    float32 `(n, measure_count(channels, dimensions))`, finite for any lesion, in this order:

    - wash-out: each later change over the first uptake in the lesion, and the last of them in the outer half;
    - profile of the uptake: first minus second shell, second minus third shell, innermost shell, dark share;
    - texture: standard deviation of the logarithmic uptake, logarithm of its mean slope per mm, and its `TAILS`;
    - surroundings: mean uptake in each ring, and its standard deviation in all but the first;
    - shape: logarithms of the size (volume^(1/3), mm), of surface over size^2, of depth over size, and of the ratios of
      the largest principal variance to the others; variance and kurtosis of the distance from the centre. In a plane
      area and length take the place of volume and surface.

    """
    # Half precision would round sums over thousands of voxels and positions within a voxel.
    with torch.autocast(x.device.type, enabled=False):
        image, distance = x[:, :-1].float(), x[:, -1].float()
        step = voxel_edge(distance) if edge is None else edge
        return _measures(image, distance, step)


def plane_measures(x: Tensor, axis: int, places: list[int], edge: Tensor | None = None) -> Tensor:
    """Mean of the measures over parallel planes of patches, float32 `(n, measure_count(channels, 2))`.

    The planes of patches `(n, channels + 1, z, y, x)` lie at `places` along `axis` 0, 1 or 2 for z, y or x. Planes that
    miss the lesion do not count, unless all miss it.
    """
    edge = voxel_edge(x[:, -1].float()) if edge is None else edge
    planes = [x.select(2 + axis, place) for place in places]
    hits = torch.stack([(plane[:, -1] > 0).flatten(1).any(dim=1) for plane in planes]).float()
    weight = torch.where(hits.sum(dim=0) > 0, hits, torch.ones_like(hits))
    measures = torch.stack([lesion_measures(plane, edge) for plane in planes])
    return (weight[..., None] * measures).sum(dim=0) / weight.sum(dim=0)[:, None]


def voxel_edge(distance: Tensor) -> Tensor:
    """Edge of the voxels, mm `(n,)`, from signed distances `(n, z, y, x)` in mm on isotropic grids.

    A distance grows by 1 mm per mm (the eikonal equation), so its slope per voxel is the edge of the voxel. The slope
    is smaller where distances are clipped, in the middle of the lesion, and outside a patch that was shrunk. The
    estimate follows every scaling and rotation of the augmentation.
    """
    slopes = _steepness(distance).flatten(1)
    clipped = distance.flatten(1).abs() >= distance.flatten(1).abs().amax(dim=1, keepdim=True) - 1.0
    edge = slopes.masked_fill(clipped, math.nan).nanquantile(_STEEP, dim=1)
    return torch.nan_to_num(edge, nan=1.0).clamp(min=0.1)


def _measures(image: Tensor, distance: Tensor, step: Tensor) -> Tensor:
    lesion = distance > 0
    deepest = distance.flatten(1).amax(dim=1).clamp(min=_TINY)
    depth = (distance / _per_case(deepest, distance)).clamp(0, 1)
    level = _mean(image[:, 1], lesion).clamp(min=_LEAST_UPTAKE)
    relative = image[:, 1] / _per_case(level, distance)
    measures = [
        *_late(image, lesion, level, outer=lesion & (depth < SHELLS[2])),
        *_profile(relative, lesion, depth, distance),
        *_texture(relative, lesion, distance, step),
        *_surroundings(relative, distance),
        *_shape(distance, step, deepest),
    ]
    return torch.stack(measures, dim=1)


def _late(image: Tensor, lesion: Tensor, level: Tensor, *, outer: Tensor) -> list[Tensor]:
    if image.shape[1] == 2:  # noqa: PLR2004 - a single phase shows no wash-out
        return []
    whole = [_mean(image[:, channel], lesion) / level for channel in range(2, image.shape[1])]
    rim = _mean(image[:, -1], outer) / _mean(image[:, 1], outer).clamp(min=_LEAST_UPTAKE)
    return [part.clamp(-_MOST_LATE, _MOST_LATE) for part in (*whole, rim)]


def _profile(relative: Tensor, lesion: Tensor, depth: Tensor, distance: Tensor) -> list[Tensor]:
    """Uptake from the surface inwards; a shell without voxels counts as average."""
    ends = (*SHELLS[1:], 1.0)
    shells = [lesion & (depth > start) & (depth <= end) for start, end in zip(SHELLS, ends, strict=True)]
    outer, second, third, inner = (_mean(relative, shell, otherwise=1.0) for shell in shells)
    dark = _mean((relative < _DARK).float(), distance > _DARK_MM)
    return [outer - second, second - third, inner, dark]


def _texture(relative: Tensor, lesion: Tensor, distance: Tensor, step: Tensor) -> list[Tensor]:
    lit = lesion & (relative > _LIT)
    inside = distance > _INSIDE * _per_case(step, distance)  # the step at the surface is no texture
    slope = _mean(_steepness(relative) / _per_case(step, distance), inside, otherwise=_USUAL_SLOPE)
    chosen = relative.flatten(1).masked_fill(~lesion.flatten(1), math.nan)
    tails = torch.nanquantile(chosen, torch.tensor(TAILS, device=relative.device), dim=1).nan_to_num(1.0)
    return [_deviation(relative.clamp(min=_LEAST_UPTAKE).log(), lit), slope.clamp(min=_TINY).log(), *tails]


def _surroundings(relative: Tensor, distance: Tensor) -> list[Tensor]:
    """Uptake around the lesion, where vessels are, and spicules too thin for the outline."""
    rings = [(distance <= -near) & (distance > -far) for near, far in RINGS_MM]
    return [*(_mean(relative, ring) for ring in rings), *(_deviation(relative, ring) for ring in rings[1:])]


def _shape(distance: Tensor, step: Tensor, deepest: Tensor) -> list[Tensor]:
    """Measures of the outline alone; in a plane volume and surface are its area and length."""
    dimensions = distance.ndim - 1
    lesion = (distance > 0).float()
    voxels = lesion.flatten(1).sum(dim=1).clamp(min=1)
    # Partial voxels at the surface: otherwise the volume would jump when a patch is rotated.
    share = (distance / _per_case(step, distance) + 0.5).clamp(0, 1)
    volume = share.flatten(1).sum(dim=1).clamp(min=1) * step**dimensions
    side = volume ** (1 / dimensions)
    axes = [torch.arange(size, dtype=torch.float32, device=distance.device) for size in distance.shape[1:]]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    weight = lesion.flatten(1) / voxels[:, None]
    offset = where[None] - (weight @ where.T)[..., None]
    smallest = 0.1 * torch.eye(dimensions, device=distance.device)
    covariance = torch.einsum("nv,niv,njv->nij", weight, offset, offset) + smallest
    extent = torch.linalg.eigvalsh(covariance).clamp(min=_TINY)
    squared = offset.square().sum(dim=1)
    second = (weight * squared).sum(dim=1).clamp(min=_TINY)
    fourth = (weight * squared.square()).sum(dim=1)
    return [
        side.log(),
        _surface(distance, step).log() - (dimensions - 1) * side.log(),
        deepest.log() - side.log(),
        *((extent[:, -1] / extent[:, axis]).log() for axis in range(dimensions - 1)),
        second.log() - 2 * (side / step).log(),
        fourth / second.square(),
    ]


def _surface(distance: Tensor, step: Tensor) -> Tensor:
    """Area (in a plane: length) of each outline, mm2 (mm) `(n,)`: the integrated slope of a ramp across it."""
    ramp = 0.5 * (distance / _per_case(step, distance)).clamp(-1, 1)
    return _steepness(ramp).flatten(1).sum(dim=1).clamp(min=1) * step ** (distance.ndim - 2)


def _steepness(values: Tensor) -> Tensor:
    """Norm of the gradient of `(n, ...)` per voxel, same shape."""
    slopes = torch.stack(torch.gradient(values, dim=tuple(range(1, values.ndim))))
    # `torch.norm` over the first dimension takes 30 times as long on the CPU.
    return slopes.square().sum(dim=0).clamp(min=_TINY**2).sqrt()


def _mean(values: Tensor, region: Tensor, otherwise: float = 0.0) -> Tensor:
    """Mean of `(n, ...)` in each region, `(n,)`; `otherwise` where a region has no voxels."""
    weight = region.flatten(1).to(values.dtype)
    count = weight.sum(dim=1)
    mean = (values.flatten(1) * weight).sum(dim=1) / count.clamp(min=1)
    return torch.where(count > 0, mean, torch.full_like(mean, otherwise))


def _deviation(values: Tensor, region: Tensor) -> Tensor:
    """Standard deviation of `(n, ...)` in each region, `(n,)`."""
    return (_mean(values.square(), region) - _mean(values, region).square()).clamp(min=_TINY).sqrt()


def _per_case(one: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per case, `(n,)`, to broadcast with arrays `(n, ...)`."""
    return one.reshape(-1, *([1] * (like.ndim - 1)))
