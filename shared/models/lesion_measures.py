"""What radiologists and radiomics measure of a lesion, as a layer: wash-out, rim, texture, surroundings, size, shape.

A network that learns from a hundred patients does not find these by itself (docs/experiments.md): given to it, they
bring it to where radiomics is, and its convolutions have the rest to explain. Signal enters only as a ratio to the
lesion's own first uptake: levels before contrast and of the uptake itself are the scanner's, and what they gained at
the training centres they lost twice over at another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHELLS = (0.0, 0.25, 0.5, 0.75)
"""Where the lesion's shells begin, from its surface (0) to its deepest voxel (1)."""
RINGS_MM = ((0.0, 2.0), (2.0, 4.0), (4.0, 8.0))
"""Rings around the lesion, by distance from its surface."""
TAILS = (0.1, 0.9)
"""Quantiles of the first uptake within the lesion, over its mean."""
_DARK, _DARK_MM = 0.5, 2.0  # of the mean uptake, at this depth: what takes up so little is necrosis or fluid
_LIT = 0.4  # of the mean uptake; below it a voxel is no part of the texture
_LEAST_UPTAKE = 0.1  # in the channels' own scale: below it ratios say nothing
_MOST_LATE = 2.0
_USUAL_SLOPE = 0.08  # relative uptake a mm, of a lesion too thin to have an inside (median of phantoms)
_INSIDE = 1.25  # edges of a voxel below the surface: a whole or half number would lie on the grid of distances
_TINY = 1e-6
_STEEP = 0.8  # quantile: hardly any slope is above an edge, and many are below it where distances are flat


def measure_count(channels: int, dimensions: int = 3) -> int:
    """How many measures `lesion_measures` takes of volumes or planes with this many image channels."""
    later = max(0, channels - 2)
    late, profile, texture, surroundings = later + min(later, 1), 4, 2 + len(TAILS), 2 * len(RINGS_MM) - 1
    return late + profile + texture + surroundings + 4 + dimensions


def lesion_measures(x: Tensor, edge: Tensor | None = None) -> Tensor:
    """Measure the lesions of patches, or of planes through them.

    Parameters
    ----------
    x
        `(n, channels + 1, z, y, x)` or `(n, channels + 1, row, column)`: image channels (pre-contrast, first uptake,
        later changes), and last the signed distance to the lesion's surface in mm, positive inside.
    edge
        Edge of the isotropic voxels, mm `(n,)`; read from the distances where it is not given. A plane needs it:
        distances to a surface in space grow by less than 1 mm a mm in a plane.

    Returns
    -------
    float32 `(n, measure_count(channels, dimensions))`: later changes over the first uptake in the lesion, the last of
    them also in its outer half; the uptake's profile (first shell less second, second less third, innermost, dark
    share); its texture (spread of its logarithm, logarithm of its mean slope a mm, tails); uptake in the rings, and its
    spread in all but the first; size (volume^(1/3) in mm), surface over size^2 and depth over size (logarithms; of a
    plane area^(1/2), and length over size), ratios of the largest variance along an axis to the others (logarithms),
    spread and kurtosis of the mass about its centre. Finite for any lesion.

    """
    # Half precision would round a sum over thousands of voxels, and a centre of mass to a fraction of a voxel.
    with torch.autocast(x.device.type, enabled=False):
        image, distance = x[:, :-1].float(), x[:, -1].float()
        step = voxel_edge(distance) if edge is None else edge
        return _measures(image, distance, step)


def plane_measures(x: Tensor, axis: int, places: list[int], edge: Tensor | None = None) -> Tensor:
    """Means of what is measured in parallel planes of patches, float32 `(n, measure_count(channels, 2))`.

    Planes that miss the lesion do not count, unless all do.

    Parameters
    ----------
    x
        Patches `(n, channels + 1, z, y, x)`.
    axis, places
        0, 1 or 2 for planes across z, y or x, and their indices along it.
    edge
        As `lesion_measures`.

    """
    edge = voxel_edge(x[:, -1].float()) if edge is None else edge
    planes = [x.select(2 + axis, place) for place in places]
    met = torch.stack([(plane[:, -1] > 0).flatten(1).any(dim=1) for plane in planes]).float()
    weight = torch.where(met.sum(dim=0) > 0, met, torch.ones_like(met))
    found = torch.stack([lesion_measures(plane, edge) for plane in planes])
    return (weight[..., None] * found).sum(dim=0) / weight.sum(dim=0)[:, None]


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


def _measures(image: Tensor, distance: Tensor, step: Tensor) -> Tensor:
    lesion = distance > 0
    deepest = distance.flatten(1).amax(dim=1).clamp(min=_TINY)
    depth = (distance / _spread(deepest, distance)).clamp(0, 1)
    level = _mean(image[:, 1], lesion).clamp(min=_LEAST_UPTAKE)
    relative = image[:, 1] / _spread(level, distance)
    found = [
        *_late(image, lesion, level, outer=lesion & (depth < SHELLS[2])),
        *_profile(relative, lesion, depth, distance),
        *_texture(relative, lesion, distance, step),
        *_surroundings(relative, distance),
        *_shape(distance, step, deepest),
    ]
    return torch.stack(found, dim=1)


def _late(image: Tensor, lesion: Tensor, level: Tensor, *, outer: Tensor) -> list[Tensor]:
    if image.shape[1] == 2:  # noqa: PLR2004 - a single phase tells nothing of wash-out
        return []
    whole = [_mean(image[:, channel], lesion) / level for channel in range(2, image.shape[1])]
    rim = _mean(image[:, -1], outer) / _mean(image[:, 1], outer).clamp(min=_LEAST_UPTAKE)
    return [part.clamp(-_MOST_LATE, _MOST_LATE) for part in (*whole, rim)]


def _profile(relative: Tensor, lesion: Tensor, depth: Tensor, distance: Tensor) -> list[Tensor]:
    """Uptake from the surface inwards; a shell without a voxel counts as average."""
    ends = (*SHELLS[1:], 1.0)
    shells = [lesion & (depth > start) & (depth <= end) for start, end in zip(SHELLS, ends, strict=True)]
    outer, second, third, inner = (_mean(relative, shell, otherwise=1.0) for shell in shells)
    dark = _mean((relative < _DARK).float(), distance > _DARK_MM)
    return [outer - second, second - third, inner, dark]


def _texture(relative: Tensor, lesion: Tensor, distance: Tensor, step: Tensor) -> list[Tensor]:
    lit = lesion & (relative > _LIT)
    inside = distance > _INSIDE * _spread(step, distance)  # the step to what is outside is no texture
    slope = _mean(_steepness(relative) / _spread(step, distance), inside, otherwise=_USUAL_SLOPE)
    chosen = relative.flatten(1).masked_fill(~lesion.flatten(1), math.nan)
    tails = torch.nanquantile(chosen, torch.tensor(TAILS, device=relative.device), dim=1).nan_to_num(1.0)
    return [_deviation(relative.clamp(min=_LEAST_UPTAKE).log(), lit), slope.clamp(min=_TINY).log(), *tails]


def _surroundings(relative: Tensor, distance: Tensor) -> list[Tensor]:
    """Uptake around the lesion, where thin spicules are that no outline follows, and vessels."""
    rings = [(distance <= -near) & (distance > -far) for near, far in RINGS_MM]
    return [*(_mean(relative, ring) for ring in rings), *(_deviation(relative, ring) for ring in rings[1:])]


def _shape(distance: Tensor, step: Tensor, deepest: Tensor) -> list[Tensor]:
    """What the outline alone says; volume and surface of a plane are its area and length."""
    dimensions = distance.ndim - 1
    lesion = (distance > 0).float()
    voxels = lesion.flatten(1).sum(dim=1).clamp(min=1)
    # Shares of voxels: whole ones would make the volume jump when a patch is turned.
    share = (distance / _spread(step, distance) + 0.5).clamp(0, 1)
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
    """Area (length) of each outline, mm2 (mm) `(n,)`: all that a ramp across it rises, however it is turned."""
    ramp = 0.5 * (distance / _spread(step, distance)).clamp(-1, 1)
    return _steepness(ramp).flatten(1).sum(dim=1).clamp(min=1) * step ** (distance.ndim - 2)


def _steepness(values: Tensor) -> Tensor:
    """Rise of `(n, ...)` a voxel along its steepest direction, the same shape."""
    slopes = torch.stack(torch.gradient(values, dim=tuple(range(1, values.ndim))))
    # `norm` over the first dimension takes 30 times as long on CPU.
    return slopes.square().sum(dim=0).clamp(min=_TINY**2).sqrt()


def _mean(values: Tensor, region: Tensor, otherwise: float = 0.0) -> Tensor:
    """Mean of `(n, ...)` in each region, `(n,)`; `otherwise` where a region has no voxel."""
    chosen = region.flatten(1).to(values.dtype)
    count = chosen.sum(dim=1)
    found = (values.flatten(1) * chosen).sum(dim=1) / count.clamp(min=1)
    return torch.where(count > 0, found, torch.full_like(found, otherwise))


def _deviation(values: Tensor, region: Tensor) -> Tensor:
    """Standard deviation of `(n, ...)` in each region, `(n,)`."""
    return (_mean(values.square(), region) - _mean(values, region).square()).clamp(min=_TINY).sqrt()


def _spread(one: Tensor, like: Tensor) -> Tensor:
    """One number a case, `(n,)`, beside arrays `(n, ...)`."""
    return one.reshape(-1, *([1] * (like.ndim - 1)))
