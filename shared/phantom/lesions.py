"""Lesions: star-shaped masses with spicules, rim, necrosis and satellites, non-mass clumps, and incidental findings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from shared.phantom.anatomy import Anatomy
from shared.phantom.biology import Latents
from shared.phantom.breasts import Breast
from shared.phantom.fields import edge_share
from shared.types import BoolArray, FloatArray, Grid

Box = tuple[slice, slice, slice]
_FAT_SKIN_MM = 3.5  # least distance of a cancer from the skin
_SMALLEST_CORE = 0.12  # relative radius below which there is no necrosis
_FIBROADENOMA, _SECOND_NODE, _CYSTS = 0.22, 0.4, 0.5  # shares of breasts with the first two; mean cysts per breast
_VISIBLE = 0.5  # share of lesion at which a voxel belongs to the mask


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion inside its box of voxels; all maps have the shape of the box."""

    box: Box  # slices (z, y, x) of the volume
    share: FloatArray  # of each voxel that is enhancing lesion
    ktrans: FloatArray  # per minute, as kep
    kep: FloatArray
    plasma: FloatArray  # volume, as a share
    centre: tuple[float, float, float]  # (x, y, z), mm
    fluids: dict[str, FloatArray] = field(default_factory=dict)  # share of each voxel, by tissue; they do not enhance

    @property
    def body(self) -> FloatArray:
        """Share of each voxel in the box that is lesion, enhancing or not."""
        return sum(self.fluids.values(), start=self.share)

    def mask(self, grid: Grid) -> BoolArray:
        """Voxels that are at least half lesion, bool `(z, y, x)`; spicules thinner than a voxel are not included."""
        full = np.zeros(grid.shape, np.bool_)
        full[self.box] = self.body >= _VISIBLE
        return full


def around(grid: Grid, centre: npt.NDArray[np.float64], reach: float) -> tuple[Box, npt.NDArray[np.float64]]:
    """Box of the voxels within `reach` mm of a point, and their offsets `(z, y, x, 3)` from it as `(x, y, z)`, mm."""
    lines, slices = [], []
    for axis in range(3):
        start, step, count = grid.origin[2 - axis], grid.spacing[axis], grid.shape[axis]
        position = start + step * np.arange(count) - centre[2 - axis]
        near = np.nonzero(np.abs(position) <= reach)[0]
        low, high = (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)
        slices.append(slice(low, high))
        lines.append(position[low:high])
    z, y, x = np.meshgrid(*lines, indexing="ij")
    return (slices[0], slices[1], slices[2]), np.stack([x, y, z], axis=-1)


def star_depth(
    rng: np.random.Generator,
    offset: npt.NDArray[np.float64],
    radius: float,
    *,
    axis_ratio: float,
    irregularity: float,
    spiculation: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Signed depth below a star-shaped surface, mm, and the relative radius (1 at the surface)."""
    turned = offset @ Rotation.random(random_state=rng).as_matrix()
    semi = radius * np.array([1.0, axis_ratio ** -rng.uniform(0.3, 1.0), axis_ratio**-1.0])
    scaled = turned / semi
    length = np.maximum(np.linalg.norm(scaled, axis=-1), 1e-6)
    unit = scaled / length[..., None]

    def directions(count: int) -> npt.NDArray[np.float64]:
        vectors = rng.standard_normal((count, 3))
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    surface = np.ones(length.shape)
    lobes = directions(14)
    surface += np.exp(7.0 * (unit @ lobes.T - 1.0)) @ (irregularity * rng.standard_normal(14))
    count = round(16 * spiculation)
    if count:
        spikes = directions(count)
        surface += np.exp(rng.uniform(25.0, 60.0) * (unit @ spikes.T - 1.0)) @ (
            spiculation * rng.uniform(0.25, 0.85, count)
        )
    surface = np.maximum(surface, 0.45)
    return (surface - length) * float(np.mean(semi)), length / surface


def _non_mass_depth(
    rng: np.random.Generator, offset: npt.NDArray[np.float64], radius: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Clumped segmental enhancement, metaballs scattered in a wedge: signed depth, mm, and the relative radius."""
    turned = offset @ Rotation.random(random_state=rng).as_matrix()
    spread = radius * np.array([0.68, 0.36, 0.26])
    centres = np.clip(rng.standard_normal((24, 3)), -1.5, 1.5) * spread
    sizes = radius * rng.uniform(0.15, 0.27, 24)
    squared = ((turned[..., None, :] - centres) ** 2).sum(-1)
    potential = np.maximum(np.exp(-squared / (2 * (0.75 * sizes) ** 2)).sum(-1), 1e-9)
    level = 0.30
    return np.log(potential / level) * float(np.mean(sizes)) * 0.55, level / potential


def place(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, radius: float) -> npt.NDArray[np.float64]:
    """Draw a centre `(x, y, z)` for a lesion of `radius` mm: near gland, off skin and muscle, often upper outer."""
    grid = anatomy.grid
    inside = anatomy.breast[breast.side]
    where = np.nonzero(inside)
    # How far the lesion would reach into skin or muscle; in a small breast the places where it does so least remain.
    clash = np.maximum(radius + _FAT_SKIN_MM - anatomy.surface[where], 0.0) + np.maximum(
        anatomy.wall[where] + radius - 4.0, 0.0
    )
    nx, ny, nz = breast.nipple
    x = grid.origin[0] + grid.spacing[2] * where[2] - nx
    y = grid.origin[1] + grid.spacing[1] * where[1] - ny
    z = grid.origin[2] + grid.spacing[0] * where[0] - nz
    weight = np.exp(-((clash - clash.min()) / 1.5)) / (1.0 + np.exp(-5.0 * (anatomy.score[where] + 0.25)))
    weight *= np.where(x * breast.lateral > 0, 1.5, 1.0) * np.where(z > 0, 1.5, 1.0) * (y > radius + 4.0) + 1e-9
    chosen = rng.choice(len(x), p=weight / weight.sum())
    return np.array([x[chosen] + nx, y[chosen] + ny, z[chosen] + nz])


def reach_mm(latents: Latents) -> float:
    """Distance from its centre up to which a lesion is drawn, mm: spicules and satellites lie outside its radius."""
    return latents.diameter_mm / 2.0 * 2.1 + 6.0


def draw_shape(
    rng: np.random.Generator, offset: npt.NDArray[np.float64], latents: Latents
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]:
    """Signed depth, mm, relative radius and satellites' depths at `offset` `(..., 3)` from a lesion's centre, mm.

    The number of draws does not depend on `offset`: the same generator gives the same lesion on any grid.
    """
    radius = latents.diameter_mm / 2.0
    if latents.non_mass:
        depth, relative = _non_mass_depth(rng, offset, 1.15 * radius)
    else:
        depth, relative = star_depth(
            rng,
            offset,
            radius,
            axis_ratio=latents.axis_ratio,
            irregularity=latents.irregularity,
            spiculation=latents.spiculation,
        )
    satellites = []
    for _ in range(latents.satellites):
        direction = rng.standard_normal(3)
        away = direction / np.linalg.norm(direction) * radius * rng.uniform(1.25, 1.7)
        size = rng.uniform(3.2, 5.0)
        satellites.append(star_depth(rng, offset - away, size, axis_ratio=1.2, irregularity=0.10, spiculation=0.0)[0])
    return depth, relative, satellites


def build_lesion(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, latents: Latents) -> Lesion:
    """Place the index lesion with its satellites and map its uptake of contrast agent."""
    grid = anatomy.grid
    pitch = float(np.mean(grid.spacing))
    radius = latents.diameter_mm / 2.0
    centre = place(rng, anatomy, breast, 0.8 * radius)
    box, offset = around(grid, centre, reach_mm(latents))
    depth, relative, satellites = draw_shape(rng, offset, latents)
    room = np.minimum(anatomy.surface[box] - 2.5, 4.5 - anatomy.wall[box])
    share = edge_share(np.minimum(depth, room), pitch)
    for satellite in satellites:
        share = np.maximum(share, edge_share(np.minimum(satellite, room - 1.0), pitch))
    share = share * anatomy.breast[breast.side][box]
    noise = anatomy.texture[box]
    # A rim takes up more, a necrotic core almost nothing; the core belongs to the tumour, as radiologists draw it.
    core = 0.5 - 0.5 * np.tanh((relative - latents.necrosis) / 0.14) if latents.necrosis > _SMALLEST_CORE else 0.0
    profile = 1.0 + latents.rim * 0.45 * (np.clip(relative, 0.0, 1.0) ** 2 - 0.55) * 2.0
    uptake = profile * np.exp(latents.heterogeneity * noise) * (1.0 - 0.88 * core)
    return Lesion(
        box=box,
        share=share,
        ktrans=(latents.ktrans * uptake).astype(np.float32),
        kep=np.broadcast_to(latents.kep * np.exp(0.35 * latents.heterogeneity * noise), share.shape).astype(np.float32),
        plasma=(0.04 * np.clip(uptake, 0.0, 1.5)).astype(np.float32),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
    )


def make_room(anatomy: Anatomy, box: Box, share: FloatArray) -> None:
    """Reduce every tissue already there by the share of a new one, in place."""
    for tissue in anatomy.fractions.values():
        tissue[box] *= 1.0 - share


def add_oedema(anatomy: Anatomy, lesion: Lesion, latents: Latents) -> None:
    """Replace some fat around the lesion by weakly enhancing water, in place: peritumoural oedema."""
    radius = latents.diameter_mm / 2.0
    box, offset = around(anatomy.grid, np.array(lesion.centre), 2.2 * radius)
    distance = np.linalg.norm(offset, axis=-1) / radius
    amount = 0.6 * latents.oedema * np.clip(1.9 - distance, 0.0, 1.0)
    moved = (anatomy.fractions["fat"][box] * amount).astype(np.float32)
    anatomy.fractions["fat"][box] -= moved
    anatomy.fractions["ligament"][box] += moved


def add_distractors(rng: np.random.Generator, anatomy: Anatomy, breast: Breast, keep_off: BoolArray) -> None:
    """Add fibroadenomas, cysts and lymph nodes to one breast, in place; none touches `keep_off`, the index lesion."""
    grid = anatomy.grid
    pitch = float(np.mean(grid.spacing))
    for name in ("fibroadenoma", "cyst", "node"):
        anatomy.fractions.setdefault(name, np.zeros(grid.shape, np.float32))
    plan = ["fibroadenoma"] * int(rng.random() < _FIBROADENOMA) + ["cyst"] * rng.poisson(_CYSTS)
    plan += ["node"] * (1 + int(rng.random() < _SECOND_NODE))
    for name in plan:
        low, high = {"fibroadenoma": (4.5, 8.5), "cyst": (2.5, 7.0), "node": (3.2, 4.8)}[name]
        radius = rng.uniform(low, high)
        if name == "node":  # intramammary nodes lie in fat of the upper outer quadrant, near the axilla
            direction = np.array([[breast.lateral * rng.uniform(0.75, 0.95), -rng.uniform(0.02, 0.35), 0.5]])
            centre = breast.place(direction / np.linalg.norm(direction), np.array([rng.uniform(0.72, 0.84)]))[0]
        else:
            centre = place(rng, anatomy, breast, radius)
        box, offset = around(grid, centre, radius * 1.6)
        if min(part.stop - part.start for part in box) == 0 or keep_off[box].any():
            continue
        ratio, lumps = {"fibroadenoma": (1.5, 0.06), "cyst": (1.1, 0.02), "node": (1.6, 0.04)}[name]
        depth, relative = star_depth(rng, offset, radius, axis_ratio=ratio, irregularity=lumps, spiculation=0.0)
        share = edge_share(np.minimum(depth, anatomy.surface[box] - 3.0), pitch)
        make_room(anatomy, box, share)
        hilum = np.clip(1.0 - relative / 0.45, 0.0, 1.0) if name == "node" else np.zeros_like(share)
        anatomy.fractions[name][box] += (share * (1.0 - hilum)).astype(np.float32)
        anatomy.fractions["fat"][box] += (share * hilum).astype(np.float32)
