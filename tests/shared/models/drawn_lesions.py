"""Lesions of known geometry as patches and planes, their measures by name, and what augmentation does to them."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from shared.modalities.mri.lesion_patch import signed_distance
from shared.models.lesion_measures import lesion_measures


def names(channels=4, dimensions=3):
    """Columns in their order; every change of it is a change of all trained weights."""
    late = [f"late.{channel}" for channel in range(2, channels)]
    return [
        *late,
        *(["late.outer"] if late else []),
        *("outer less second", "second less third", "inner", "dark"),
        *("spread", "slope", "q10", "q90"),
        *("ring.0", "ring.1", "ring.2", "ring spread.1", "ring spread.2"),
        *("size", "surface", "depth"),
        *("longest over shortest", "longest over middle")[: dimensions - 1],
        *("second moment", "fourth moment"),
    ]


def shape_names(dimensions=3):
    return names(2, dimensions)[-(4 + dimensions) :]


def named(x, step=None):
    """Measures of one patch or plane by name; the voxel's edge is read where it is not given."""
    row = lesion_measures(x, None if step is None else torch.tensor([step]))[0]
    columns = names(x.shape[1] - 1, x.ndim - 2)
    assert len(row) == len(columns)
    return dict(zip(columns, row.tolist(), strict=True))


def cells(count, step, dimensions):
    axis = (np.arange(count) - 0.5 * (count - 1)) * step
    return np.meshgrid(*[axis] * dimensions, indexing="ij")


def outline(mask, step=1.0):
    return torch.from_numpy(signed_distance(mask, step))


def ellipsoid(semiaxes, count=36, step=1.0):
    """Signed distance of an ellipsoid, or of an ellipse, in the middle of a box."""
    places = cells(count, step, len(semiaxes))
    return outline(sum((place / half) ** 2 for place, half in zip(places, semiaxes, strict=True)) < 1, step)


def block(sides, count=36, step=1.0):
    """Signed distance of a block, or of a rectangle, in the middle of a box."""
    places = cells(count, step, len(sides))
    inside = [np.abs(place) < 0.5 * side for place, side in zip(places, sides, strict=True)]
    return outline(np.all(inside, axis=0), step)


def patch(distance, channels=4, seed=0):
    """Noise about a level that differs by channel, uptake well above where ratios end."""
    draw = torch.Generator().manual_seed(seed)
    level = torch.tensor([1.0, 1.5, 0.3, -0.4, 0.2])[:channels].reshape(-1, *[1] * distance.ndim)
    image = level + 0.1 * torch.randn((channels, *distance.shape), generator=draw)
    return torch.cat([image, distance[None]])[None]


def lopsided(dimensions=3):
    """No axis or direction is like another."""
    places = cells(36, 1.0, dimensions)
    halves, bump = (6, 8, 11)[-dimensions:], (4, -5, 7)[-dimensions:]
    large = sum((place / half) ** 2 for place, half in zip(places, halves, strict=True)) < 1
    small = sum((place - middle) ** 2 for place, middle in zip(places, bump, strict=True)) < 30
    return patch(outline(large | small))


def rotation(*degrees):
    """One angle turns a plane, three a volume."""
    planes = ((0, 1), (1, 2), (0, 2))
    result = torch.eye(2 if len(degrees) == 1 else 3)
    for (i, j), angle in zip(planes, degrees, strict=False):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = torch.eye(len(result))
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        result = result @ one
    return result


def moved(x, turn, scale=1.0):
    """A batch turned by a rotation matrix and magnified, as augmentation does it."""
    shift = torch.tensor([[0.03], [-0.02], [0.04]])[: len(turn)]
    grid = F.affine_grid(torch.cat([turn / scale, shift], dim=1)[None], list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
