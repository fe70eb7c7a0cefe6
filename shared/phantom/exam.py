"""One phantom exam in memory: labels, anatomy, lesion, physics, masks; the same numbers for the same seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.phantom.anatomy import Anatomy, build_anatomy
from shared.phantom.biology import Labels, Latents, draw_labels, draw_latents
from shared.phantom.breasts import draw_breasts
from shared.phantom.centres import CENTRES, Centre, Protocol, find_centre, population_at, protocol_at
from shared.phantom.fields import spline_field
from shared.phantom.lesions import add_distractors, add_oedema, build_lesion, make_room
from shared.phantom.mr_signal import acquire
from shared.phantom.vessels import draw_vessels, feeding_vessel, grow_tree
from shared.types import Acquisition, BoolArray, DceStudy, FloatArray, Grid, Side

_FIELD_MM = {"z": 115.0, "y": 115.0, "x": 128.0}  # of one breast
_GREY_MAX = 4095.0
_GLAND_VISIBLE = 0.5  # share of gland from which a voxel is in the mask
_LEFT = 0.52  # cancers are slightly commoner on the left


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """What decides a phantom federation, byte for byte.

    Attributes
    ----------
    shift
        0: every centre scans by one consensus protocol; 1: the centres' full differences.
    separation
        How far the subtypes' latent means lie apart.

    """

    cases_per_site: int = 24
    cases_external: int = 24
    shift: float = 0.6
    separation: float = 0.75
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PhantomExam:
    """One exam with its truth. Masks are bool `(z, y, x)`; breast and fibroglandular ones are of the index breast.

    `phases` are float32 `(4, z, y, x)`, whole stored grey levels (0 to 4095) times `slope`; `times_s` are seconds after
    injection.
    """

    centre: str
    index: int
    phases: FloatArray
    times_s: tuple[float, ...]
    grid: Grid
    lesion: BoolArray
    breast: BoolArray
    fibroglandular: BoolArray
    side: Side
    labels: Labels
    latents: Latents
    protocol: Protocol
    slope: float

    @property
    def patient_id(self) -> str:
        """Identifier in the table and in DICOM."""
        return f"PH-{self.centre}-{self.index:03d}"

    @property
    def study(self) -> DceStudy:
        """The exam as the DICOM door hands it out."""
        centre = CENTRES[self.centre]
        plane = "sagittal" if centre.orientation == "sagittal" else "axial"
        return DceStudy(
            self.phases,
            self.times_s,
            self.grid,
            Acquisition(centre.manufacturer, centre.field_strength_t, "sagittal" if plane == "sagittal" else "axial"),
        )


def patient_streams(settings: PhantomSettings, centre: Centre, index: int) -> list[np.random.Generator]:
    """Independent generators of one patient: biology, anatomy, lesion, vessels, acquisition.

    One a stage, so that no stage's number of draws disturbs the next, and patients can be made in any order.
    """
    root = np.random.SeedSequence((settings.seed, ord(centre.key), index))
    return [np.random.default_rng(child) for child in root.spawn(5)]


def field_of_view(rng: np.random.Generator, centre: Centre, protocol: Protocol, side: Side) -> Grid:
    """Acquisition grid around the breasts in body coordinates; a sagittal centre scans the index breast alone."""
    sagittal = centre.orientation == "sagittal"
    inplane, through = protocol.pixel_mm, protocol.slice_mm
    spacing = (inplane, inplane, through) if sagittal else (through, inplane, inplane)
    width = _FIELD_MM["x"] * (1.0 if sagittal else 2.0)
    shape = (
        round(_FIELD_MM["z"] / spacing[0]),
        round(_FIELD_MM["y"] / spacing[1]),
        round(width / spacing[2]),
    )
    x, y, z = rng.normal(0.0, 1.5), rng.uniform(-79.0, -76.0), rng.normal(0.0, 2.0)
    if sagittal:
        x += 66.0 if side == "left" else -66.0
    return Grid(
        shape,
        spacing,
        (x - 0.5 * (shape[2] - 1) * spacing[2], y, z - 0.5 * (shape[0] - 1) * spacing[0]),
    )


def background_uptake(rng: np.random.Generator, anatomy: Anatomy, level: float) -> FloatArray:
    """Background enhancement relative to the mean patient, `(z, y, x)`: patchy, stronger at the periphery."""
    patchy = 0.45 * spline_field(rng, anatomy.grid, 16.0) + 0.25 * anatomy.texture
    rim = 0.25 * np.clip(1.0 - anatomy.surface / 18.0, 0.0, 1.0)
    return np.asarray(np.clip(level * (0.85 + patchy + rim), 0.05, 3.0), dtype=np.float32)


def make_exam(centre: str, index: int, settings: PhantomSettings) -> PhantomExam:
    """Make patient `index` of a centre (`"A"` or `"centre-a"`) in memory.

    Raises
    ------
    ConfigError
        The phantom has no such centre.

    """
    place = find_centre(centre)
    protocol, population = protocol_at(place, settings.shift), population_at(place, settings.shift)
    biology, body, tumour, vascular, scanner = patient_streams(settings, place, index)
    labels = draw_labels(biology, population)
    latents = draw_latents(biology, labels.subtype, settings.separation, population.ln_diameter)
    side: Side = "left" if biology.random() < _LEFT else "right"
    background_level = population.background * float(np.exp(biology.normal(-0.08, 0.40)))

    breasts = draw_breasts(body, labels.density)
    grid = field_of_view(body, place, protocol, side)
    seen = tuple(breast for breast in breasts if place.orientation != "sagittal" or breast.side == side)
    index_breast = next(breast for breast in seen if breast.side == side)
    anatomy = build_anatomy(body, grid, seen)
    gland = anatomy.fractions["gland"].copy()

    lesion = build_lesion(tumour, anatomy, index_breast, latents)
    mask = lesion.mask(grid)
    vessels = np.zeros(grid.shape, np.float32)
    for breast in seen:
        points, radius = grow_tree(vascular, breast)
        vessels = np.maximum(vessels, draw_vessels(grid, points, radius))
        if breast is index_breast:
            vessels = np.maximum(
                vessels, draw_vessels(grid, *feeding_vessel(vascular, points, np.array(lesion.centre), 0.9))
            )
    inside = sum(anatomy.fractions.values(), start=np.float32(0.0))
    vessels *= inside
    everywhere = (slice(None), slice(None), slice(None))
    make_room(anatomy, everywhere, vessels)
    anatomy.fractions["blood"] += vessels
    for breast in seen:
        add_distractors(tumour, anatomy, breast, mask)
    add_oedema(anatomy, lesion, latents)
    make_room(anatomy, lesion.box, lesion.share)

    background = background_uptake(scanner, anatomy, background_level)
    images = acquire(scanner, anatomy, lesion, background, protocol=protocol, motion_mm=population.motion_mm)
    # Philips scales each exam to its storage range and says so in RescaleSlope; the others store as they measure.
    slope = round(float(images.max()) / 4000.0 + 0.01, 6) if place.series == "single" else 1.0
    table = body.normal(0.0, (4.0, 10.0, 12.0))  # where the patient lies about the magnet's isocentre, mm
    origin = tuple(round(float(start + shift), 4) for start, shift in zip(grid.origin, table, strict=True))
    return PhantomExam(
        centre=place.key,
        index=index,
        phases=(np.clip(np.rint(images / slope), 0.0, _GREY_MAX) * slope).astype(np.float32),
        times_s=(-round(protocol.post_times_s[0] * 0.8, 1), *(round(time, 1) for time in protocol.post_times_s)),
        grid=Grid(grid.shape, grid.spacing, (origin[0], origin[1], origin[2])),
        lesion=mask,
        breast=anatomy.breast[side],
        fibroglandular=(gland >= _GLAND_VISIBLE) & anatomy.breast[side],
        side=side,
        labels=labels,
        latents=latents,
        protocol=protocol,
        slope=slope,
    )
