"""Four mammograms of a patient, CC and MLO of both breasts, of the same body as the MRI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from shared.phantom.anatomy import Anatomy, build_anatomy
from shared.phantom.breasts import Breast
from shared.phantom.centres import protocol_at
from shared.phantom.compression import VIEWS, Compression, Points, View, compress
from shared.phantom.exam import Body, field_of_view
from shared.phantom.lesions import add_distractors
from shared.phantom.mammogram_image import UNITS, expose, grey_scale, look_at, processed
from shared.phantom.mammogram_lesion import (
    Finding,
    coarse_calcifications,
    draw_finding,
    lesion_path,
    outline,
    retraction,
    speck_path,
)
from shared.phantom.mammogram_tissue import Texture, draw_texture, gland_path, lump_path, muscle_path
from shared.phantom.settings import PhantomSettings
from shared.phantom.strands import Strands, draw_strands, draw_tree, grow_strands
from shared.phantom.vessels import grow_tree
from shared.types import BoolArray, FloatArray, Side

_STREAM = 5  # of the patient: MRI has those before
_LINE_BLUR = 0.55  # pixels: strands are not infinitely thin
_MARGIN = 1.2  # of the index lesion towards the chest wall, in radii
_MOST = 0.85  # share of the breast's thickness that a lesion may fill


@dataclass(frozen=True, slots=True)
class Mammogram:
    """One view of one breast; arrays are `(row, column)` with the chest wall at column 0, lateral or axilla on top."""

    side: Side
    geometry: Compression
    measured: FloatArray  # logarithm of the attenuation, 0 in air
    level: FloatArray  # the same after the unit's processing
    ends: tuple[float, float]  # levels of black and of white
    grey: FloatArray  # level through the grey scale, 0 to 1; tissue is bright
    inside: BoolArray  # breast
    muscle: BoolArray  # behind or in front of which pectoral muscle lies
    lesion: BoolArray | None  # the index lesion's outline in this view

    @property
    def view(self) -> View:
        """CC or MLO."""
        return self.geometry.view


@dataclass(frozen=True, slots=True)
class _Tissue:
    """A breast before it is compressed."""

    breast: Breast
    anatomy: Anatomy
    strands: list[Strands]
    vessels: tuple[Points, Points]
    specks: tuple[Points, Points]
    finding: Finding | None


def mammogram_stream(settings: PhantomSettings, body: Body) -> np.random.Generator:
    """Return the patient's generator of all that only mammograms show."""
    benign = (1,) if settings.is_benign(body.place.key, body.index) else ()
    entropy = (settings.seed, ord(body.place.key), body.index, *benign)
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(_STREAM,)))


def make_mammograms(body: Body, settings: PhantomSettings) -> list[Mammogram]:
    """Take CC and MLO of the left breast, then of the right one."""
    rng = mammogram_stream(settings, body)
    texture = draw_texture(rng)
    pictures = []
    for breast, stream in zip(body.breasts, rng.spawn(2), strict=True):
        tissue = _tissue(stream, breast, body, settings)
        for view, of_view in zip(VIEWS, stream.spawn(2), strict=True):
            pictures.append(_take_view(of_view, tissue, view, texture, body, settings))
    return pictures


def _tissue(rng: np.random.Generator, breast: Breast, body: Body, settings: PhantomSettings) -> _Tissue:
    index_breast = breast.side == body.side
    if breast.side in body.vessels:
        anatomy, vessels = body.anatomy, body.vessels[breast.side]
    else:  # a sagittal MRI has not seen this breast
        grid = field_of_view(rng, body.place, protocol_at(body.place, settings.shift), breast.side)
        anatomy, vessels = build_anatomy(rng, grid, (breast,)), grow_tree(rng, breast)
        add_distractors(rng, anatomy, breast, np.zeros(grid.shape, np.bool_))
    return _Tissue(
        breast=breast,
        anatomy=anatomy,
        strands=grow_strands(rng, breast),
        vessels=vessels,
        specks=coarse_calcifications(rng, breast),
        finding=draw_finding(rng, body, breast) if index_breast else None,
    )


def _back_of_lesion(breast: Breast, body: Body) -> float:
    """Depth from the breast's base at which the index lesion begins, mm."""
    return breast.centre[1] - body.lesion.centre[1] - _MARGIN * body.growth.diameter_mm / 2.0


def _take_view(
    rng: np.random.Generator, tissue: _Tissue, view: View, texture: Texture, body: Body, settings: PhantomSettings
) -> Mammogram:
    unit, look = UNITS[body.place.key], look_at(body.place.key, settings.shift)
    lesion_from = np.inf if tissue.finding is None else _back_of_lesion(tissue.breast, body)
    geometry = compress(rng, tissue.breast, view, unit.pixel_mm, unit.field_mm, lesion_from)
    whole, skin = geometry.thickness_map()
    nothing = np.zeros(geometry.shape, np.float32)
    pull, body_path, spicules, solid = np.stack([nothing, nothing]), nothing, nothing, 1.0
    calcium = speck_path(geometry, tissue.specks)
    if tissue.finding is not None:
        pull = retraction(geometry, body, tissue.finding)
        solid = tissue.finding.solid
        body_path, spicules = lesion_path(geometry, body, settings, tissue.finding)
        calcium = calcium + speck_path(geometry, tissue.finding.calcifications)
    body_path = np.minimum(body_path, _MOST * whole)
    lesion = body_path * np.float32(solid)
    muscle = muscle_path(rng, geometry, texture, whole)
    # Muscle lies behind the breast and a lesion within it: where they meet in the picture, muscle gives way.
    muscle = np.minimum(muscle, np.clip(whole - lesion - skin, 0.0, None))
    lumps = np.minimum(lump_path(geometry, tissue.anatomy, whole), np.clip(whole - lesion - muscle - skin, 0.0, None))
    left = np.clip(whole - lesion - muscle - lumps - skin, 0.0, None)
    room = left / np.maximum(whole, 1.0)
    gland = gland_path(rng, geometry, tissue.anatomy, texture, whole=whole, pull=pull) * room
    lines = sum((draw_strands(geometry, curves, pull) for curves in tissue.strands), start=spicules)
    lines = gaussian_filter(lines + draw_tree(geometry, *tissue.vessels), _LINE_BLUR)
    gland = np.minimum(gland + lines * np.sqrt(room), left)
    paths = {
        "fat": left - gland,
        "gland": gland + lumps,
        "skin": skin,
        "muscle": muscle,
        "lesion": lesion,
        "calcium": calcium * (whole > 0.0),
    }
    measured = expose(rng, paths, look)
    inside = whole > 0.0
    level, ends = processed(measured, whole, geometry.thickness, geometry.pixel, look, inside)
    grey = grey_scale(level, ends, look)
    return Mammogram(
        side=tissue.breast.side,
        geometry=geometry,
        measured=measured,
        level=level,
        ends=ends,
        grey=np.clip(look.fog + (1.0 - look.fog) * grey, 0.0, 1.0),
        inside=inside,
        muscle=muscle > 1.0,
        lesion=outline(body_path) if tissue.finding is not None else None,
    )
