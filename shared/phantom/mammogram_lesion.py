"""The index lesion in a mammogram: the MRI's own shape in finer steps, with spicules, distortion, calcifications.

Shape, size and place are those of the MRI: the same generator in the same state draws the lesion on a lattice along the
beam. A cancer is stiffer than fat: it is flattened less than the breast and keeps its size in the plane.

Calcifications are drawn by subtype: HER2-positive cancers have them most often, triple-negative ones least. The shares
are our own choice; `biology.oracle_auc` takes them as `calcification_signs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes

from shared.phantom.benign import BenignLatents
from shared.phantom.biology import Labels, Latents
from shared.phantom.breasts import Breast
from shared.phantom.centres import SUBTYPES
from shared.phantom.compression import Compression, Points
from shared.phantom.exam import Body, patient_streams
from shared.phantom.fields import edge_share
from shared.phantom.lesions import draw_shape, place, star_depth
from shared.phantom.mammogram_tissue import interpolate
from shared.phantom.settings import PhantomSettings
from shared.phantom.strands import draw_strands, splat
from shared.phantom.traits import Doubles
from shared.types import BoolArray, FloatArray

CALCIFIED = {"luminal_a": 0.30, "luminal_b": 0.45, "her2_enriched": 0.75, "triple_negative": 0.15}
"""Share of cancers with suspicious calcifications."""
_CALCIFIED_BENIGN = {"fibroadenoma": 0.25, "papilloma": 0.15, "adenosis": 0.35, "cyst": 0.0}
_LINEAR = {"luminal_a": 0.05, "luminal_b": 0.20, "her2_enriched": 0.50, "triple_negative": 0.05}
"""Share of these that line ducts; the others lie in a cluster."""
_SOLID, _SOLID_NON_MASS = (0.45, 1.0), (0.25, 0.60)  # else every lesion would be the brightest thing in its breast
_FLATTENED = 1.15  # by how much a lesion is flatter along the beam than in the MRI
_COARSE = 1.0  # mean number of coarse benign calcifications of a breast
_SEEN = 0.14  # share of the longest path at which the outline runs
_LEAST_MM = 1.0


def calcification_signs() -> Doubles:
    """Probability of no calcifications, of a cluster and of rows of them, by subtype: `(class, 3)`."""
    some, lined = (np.array([table[name] for name in SUBTYPES]) for table in (CALCIFIED, _LINEAR))
    return np.stack([1.0 - some, some * (1.0 - lined), some * lined], axis=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the index lesion adds to a breast: spicules and calcifications, in coordinates of the body, mm."""

    spicules: tuple[Points, Points]  # as `strands.Strands`
    calcifications: tuple[Points, Points]  # (n, 3), and diameters (n,)
    calcified: bool
    solid: float  # share of the body that is tumour; the rest is the tissue it grows into
    retraction: float  # how far the structure around is drawn in, share of the distance


def draw_finding(rng: np.random.Generator, body: Body, breast: Breast) -> Finding:
    """Draw what belongs to the lesion but is too fine for the MRI."""
    latents, labels, centre = body.growth, body.labels, np.array(body.lesion.centre)
    radius = latents.diameter_mm / 2.0
    cancer = isinstance(labels, Labels)
    chance, lined = (
        (CALCIFIED[labels.subtype], _LINEAR[labels.subtype])
        if isinstance(labels, Labels)
        else (_CALCIFIED_BENIGN[labels.kind], 0.0)
    )
    calcified, linear = (rng.random(2) < (chance, lined)).tolist()
    amount = latents.spiculation if not latents.non_mass else 0.4 * latents.spiculation
    count = int(rng.poisson(44.0 * amount**1.3))
    t = np.linspace(0.0, 1.0, 24)[None, :, None]
    away = rng.standard_normal((count, 1, 3))
    away /= np.linalg.norm(away, axis=-1, keepdims=True)
    bend = rng.standard_normal((count, 1, 3)) * 0.10 * radius
    reach = radius * rng.uniform(1.4, 2.3, (count, 1, 1))
    points = centre + away * (0.6 * radius + t * (reach - 0.6 * radius)) + bend * t**2
    section = rng.uniform(1.2, 3.2, (count, 1)) * (1.0 - 0.85 * t[..., 0])
    specks = _draw_specks(rng, centre, radius, breast, linear=linear) if calcified else (np.zeros((0, 3)), np.zeros(0))
    return Finding(
        spicules=(points, section),
        calcifications=specks,
        calcified=bool(calcified),
        solid=float(rng.uniform(*(_SOLID_NON_MASS if latents.non_mass else _SOLID))),
        retraction=0.5 * amount if cancer else 0.15 * amount,
    )


def _draw_specks(
    rng: np.random.Generator, centre: Points, radius: float, breast: Breast, *, linear: bool
) -> tuple[Points, Points]:
    """Pleomorphic calcifications: a cluster in the lesion, or rows of them along ducts that lead to the nipple."""
    count = 8 + int(rng.poisson(16.0 if linear else 10.0))
    if linear:
        ways = np.array(breast.nipple) - centre + rng.standard_normal((3, 3)) * 12.0
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        along = rng.uniform(-1.1, 1.1, (count, 1)) * radius
        places = centre + ways[rng.integers(0, 3, count)] * along + rng.standard_normal((count, 3)) * 0.5
    else:
        places = centre + np.clip(rng.standard_normal((count, 3)), -1.8, 1.8) * min(0.42 * radius, 7.0)
    sizes = np.clip(0.30 * np.exp(0.38 * rng.standard_normal(count)), 0.16, 0.75)
    # A grain is two or three specks side by side: its outline is never round.
    parts = [places + rng.standard_normal((count, 3)) * 0.7 * sizes[:, None] for _ in range(2)]
    return np.concatenate([places, *parts]), np.concatenate([sizes, 0.7 * sizes, 0.6 * sizes])


def coarse_calcifications(rng: np.random.Generator, breast: Breast) -> tuple[Points, Points]:
    """Draw single round benign calcifications of a breast: points `(n, 3)` and diameters, mm."""
    count = int(rng.poisson(_COARSE))
    direction = rng.standard_normal((count, 3))
    direction[:, 1] = -np.abs(direction[:, 1])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return breast.place(direction, rng.uniform(0.2, 0.9, count)), rng.uniform(0.4, 1.3, count)


def speck_path(geometry: Compression, specks: tuple[Points, Points]) -> FloatArray:
    """Path through calcifications, mm: their volume over a pixel's area."""
    points, sizes = specks
    if not len(points):
        return np.zeros(geometry.shape, np.float32)
    return splat(geometry.shape, geometry.project(points)[0], np.pi / 6.0 * sizes**3 / geometry.pixel**2)


def lesion_path(
    geometry: Compression, body: Body, settings: PhantomSettings, finding: Finding
) -> tuple[FloatArray, FloatArray]:
    """Path through the lesion's body and through its spicules, mm, `(row, column)`."""
    latents = body.growth
    radius = latents.diameter_mm / 2.0
    # The streams begin anew, so this generator reaches the shape in the state in which it drew the MRI's.
    rng = patient_streams(settings, body.place, body.index)[2]
    centre = place(rng, body.anatomy, geometry.breast, 0.8 * radius)
    (at,), _ = geometry.project(centre[None])
    step = max(2.0, radius / 13.0 / geometry.pixel)
    # Lobes and spikes reach beyond the radius, and satellites lie at up to 1.7 radii.
    reach = max((1.5 + 1.0 * latents.spiculation) * radius + 3.0, 1.75 * radius + 6.0 if latents.satellites else 0.0)
    half = int(np.ceil(reach / geometry.pixel / step))
    knots = np.arange(-half, half + 1) * step * geometry.pixel
    along = np.linspace(-reach / _FLATTENED, reach / _FLATTENED, 2 * (half // 2) + 1)
    across = _frame(geometry)
    height, up, depth = np.meshgrid(along * _FLATTENED, -knots, knots, indexing="ij")
    offset = np.stack([depth, up, height], axis=-1) @ across
    share = _share(rng, offset, body.latents, step * geometry.pixel)
    path = share.sum(axis=0) * (along[1] - along[0])
    rows, columns = ((np.arange(size) - middle) / step + half for size, middle in zip(geometry.shape, at, strict=True))
    return interpolate(path.astype(np.float32), rows, columns), draw_strands(geometry, finding.spicules)


def _frame(geometry: Compression) -> Points:
    """Directions of depth, up and beam in the body, `(3, 3)`."""
    cosine, sine, lateral = np.cos(geometry.angle), np.sin(geometry.angle), geometry.breast.lateral
    return np.array([[0.0, -1.0, 0.0], [lateral * cosine, 0.0, sine], [-lateral * sine, 0.0, cosine]])


def _share(rng: np.random.Generator, offset: Points, latents: Latents | BenignLatents, width: float) -> FloatArray:
    """Share of lesion at each point; a cyst is drawn as `benign` draws it."""
    if isinstance(latents, BenignLatents) and latents.kind == "cyst":
        body = latents.body
        depth, _ = star_depth(
            rng,
            offset,
            body.diameter_mm / 2.0,
            axis_ratio=body.axis_ratio,
            irregularity=body.irregularity,
            spiculation=0.0,
        )
        return edge_share(depth, width)
    depth, _, satellites = draw_shape(rng, offset, latents.body if isinstance(latents, BenignLatents) else latents)
    share = edge_share(depth, width)
    for satellite in satellites:
        share = np.maximum(share, edge_share(satellite, width))
    return share


def retraction(geometry: Compression, body: Body, finding: Finding) -> FloatArray:
    """Architectural distortion: how far away, in pixels, the structure at a pixel came from: `(2, row, column)`."""
    (at,), _ = geometry.project(np.array(body.lesion.centre)[None])
    away = np.indices(geometry.shape, dtype=np.float32) - at[:, None, None].astype(np.float32)
    reach = 1.7 * body.growth.diameter_mm / 2.0 / geometry.pixel
    return np.asarray(away * np.float32(finding.retraction) * np.exp(-(away**2).sum(axis=0) / np.float32(reach**2)))


def outline(path: FloatArray) -> BoolArray:
    """Region of interest as a reader outlines it: the lesion's visible body, without holes and spicules."""
    seen = path >= max(_SEEN * float(path.max()), _LEAST_MM)
    return np.asarray(binary_fill_holes(binary_closing(np.pad(seen, 6), iterations=5))[6:-6, 6:-6])
