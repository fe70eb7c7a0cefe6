"""One phantom exam in memory: labels, images and masks. The same seed gives the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.modalities.mri.dce_study import Acquisition, DceStudy
from shared.phantom.anatomy import Anatomy, build_anatomy
from shared.phantom.benign import BenignLabels, BenignLatents, build_benign, draw_benign_labels, draw_benign_latents
from shared.phantom.biology import Labels, Latents, draw_labels, draw_latents
from shared.phantom.breasts import Breast, draw_breasts
from shared.phantom.centres import CENTRES, Centre, Population, Protocol, find_centre, protocol_at
from shared.phantom.fields import spline_field
from shared.phantom.lesions import Lesion, add_distractors, add_oedema, build_lesion, make_room
from shared.phantom.mr_signal import acquire
from shared.phantom.settings import PhantomSettings
from shared.phantom.vessels import draw_vessels, feeding_vessel, grow_tree
from shared.types import BoolArray, FloatArray, Grid, Side

_FIELD_MM = {"z": 115.0, "y": 115.0, "x": 128.0}  # field of view of one breast
_GREY_MAX = 4095.0
_GLAND_VISIBLE = 0.5  # share of gland at which a voxel belongs to the mask
_FEEDER_MM = 0.9  # radius of the vessel that runs to a cancer
_LEFT = 0.52  # cancers are slightly commoner on the left


@dataclass(frozen=True, slots=True)
class PhantomExam:
    """One exam with its ground truth; masks are bool `(z, y, x)`."""

    centre: str
    index: int
    phases: FloatArray  # float32 (4, z, y, x): stored whole grey levels from 0 to 4095, times `slope`
    times_s: tuple[float, ...]  # seconds after injection of each phase
    grid: Grid
    lesion: BoolArray
    breast: BoolArray  # of the breast with the lesion, as the next
    fibroglandular: BoolArray
    side: Side
    labels: Labels | BenignLabels
    latents: Latents | BenignLatents  # the biology behind the images
    protocol: Protocol  # how the exam was scanned
    slope: float

    @property
    def patient_id(self) -> str:
        """Identifier in the table and in DICOM."""
        return f"PH-{self.centre}-{self.index:03d}"

    @property
    def study(self) -> DceStudy:
        """The exam as the DICOM reader returns it."""
        centre = CENTRES[self.centre]
        plane: Literal["sagittal", "axial"] = "sagittal" if centre.orientation == "sagittal" else "axial"
        acquisition = Acquisition(centre.manufacturer, centre.field_strength_t, plane)
        return DceStudy(self.phases, self.times_s, self.grid, acquisition)


def patient_streams(settings: PhantomSettings, centre: Centre, index: int) -> list[np.random.Generator]:
    """Independent generators of one patient: biology, anatomy, lesion, vessels, acquisition.

    Each stage has its own, so that the number of draws of one does not change the next. Patients can be generated in
    any order.
    """
    benign = (1,) if settings.is_benign(centre.key, index) else ()
    root = np.random.SeedSequence((settings.seed, ord(centre.key), index, *benign))
    return [np.random.default_rng(child) for child in root.spawn(5)]


def field_of_view(rng: np.random.Generator, centre: Centre, protocol: Protocol, side: Side) -> Grid:
    """Acquisition grid in body coordinates; a sagittal centre scans only the breast with the index lesion."""
    sagittal = centre.orientation == "sagittal"
    inplane, through = protocol.pixel_mm, protocol.slice_mm
    spacing = (inplane, inplane, through) if sagittal else (through, inplane, inplane)
    width = _FIELD_MM["x"] * (1.0 if sagittal else 2.0)
    shape = (round(_FIELD_MM["z"] / spacing[0]), round(_FIELD_MM["y"] / spacing[1]), round(width / spacing[2]))
    x, y, z = rng.normal(0.0, 1.5), rng.uniform(-79.0, -76.0), rng.normal(0.0, 2.0)
    if sagittal:
        x += 66.0 if side == "left" else -66.0
    return Grid(shape, spacing, (x - 0.5 * (shape[2] - 1) * spacing[2], y, z - 0.5 * (shape[0] - 1) * spacing[0]))


def background_uptake(rng: np.random.Generator, anatomy: Anatomy, level: float) -> FloatArray:
    """Background enhancement relative to the mean patient, `(z, y, x)`: patchy, and stronger near the skin."""
    patchy = 0.45 * spline_field(rng, anatomy.grid, 16.0) + 0.25 * anatomy.texture
    rim = 0.25 * np.clip(1.0 - anatomy.surface / 18.0, 0.0, 1.0)
    return np.asarray(np.clip(level * (0.85 + patchy + rim), 0.05, 3.0), dtype=np.float32)


def _draw_disease(
    rng: np.random.Generator, population: Population, settings: PhantomSettings, *, benign: bool
) -> tuple[Labels, Latents] | tuple[BenignLabels, BenignLatents]:
    if benign:
        benign_labels = draw_benign_labels(rng, population)
        return benign_labels, draw_benign_latents(rng, benign_labels.kind, population.ln_diameter)
    labels = draw_labels(rng, population)
    return labels, draw_latents(rng, labels.subtype, settings.separation, population.ln_diameter)


@dataclass(frozen=True, slots=True)
class Body:
    """A patient with an index lesion before any image is taken: what MRI and mammograms have in common."""

    place: Centre
    index: int
    labels: Labels | BenignLabels
    latents: Latents | BenignLatents
    side: Side  # of the index lesion
    background: float  # level of background enhancement
    breasts: tuple[Breast, Breast]
    anatomy: Anatomy  # within the field of view of MRI, with the lesion in it
    gland: FloatArray  # share before lesions and vessels, `(z, y, x)`
    lesion: Lesion
    mask: BoolArray
    vessels: dict[Side, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]  # centre lines and radii, mm
    body_stream: np.random.Generator  # as the anatomy left it
    scanner: np.random.Generator

    @property
    def patient_id(self) -> str:
        """Identifier in the table and in DICOM."""
        return f"PH-{self.place.key}-{self.index:03d}"

    @property
    def growth(self) -> Latents:
        """Latents that cancers and benign lesions have in common."""
        return self.latents.body if isinstance(self.latents, BenignLatents) else self.latents


def make_body(centre: str, index: int, settings: PhantomSettings) -> Body:
    """Generate the body of patient `index` of a centre (`"A"` or `"centre-a"`).

    Raises
    ------
    ConfigError
        The phantom has no such centre.

    """
    place = find_centre(centre)
    protocol, population = protocol_at(place, settings.shift), settings.population(place)
    biology, body, tumour, vascular, scanner = patient_streams(settings, place, index)
    labels, latents = _draw_disease(biology, population, settings, benign=settings.is_benign(place.key, index))
    side: Side = "left" if biology.random() < _LEFT else "right"
    background_level = population.background * float(np.exp(biology.normal(-0.08, 0.40)))

    breasts = draw_breasts(body, labels.density)
    grid = field_of_view(body, place, protocol, side)
    seen = tuple(breast for breast in breasts if place.orientation != "sagittal" or breast.side == side)
    index_breast = next(breast for breast in seen if breast.side == side)
    anatomy = build_anatomy(body, grid, seen)
    gland = anatomy.fractions["gland"].copy()

    if isinstance(latents, BenignLatents):
        lesion, growth, feeder = build_benign(tumour, anatomy, index_breast, latents), latents.body, latents.feeder_mm
    else:
        lesion, growth, feeder = build_lesion(tumour, anatomy, index_breast, latents), latents, _FEEDER_MM
    mask = lesion.mask(grid)
    vessels = np.zeros(grid.shape, np.float32)
    trees: dict[Side, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    for breast in seen:
        points, radius = trees[breast.side] = grow_tree(vascular, breast)
        vessels = np.maximum(vessels, draw_vessels(grid, points, radius))
        if breast is index_breast and feeder:
            vessels = np.maximum(
                vessels, draw_vessels(grid, *feeding_vessel(vascular, points, np.array(lesion.centre), feeder))
            )
    inside = sum(anatomy.fractions.values(), start=np.float32(0.0))
    vessels *= inside
    everywhere = (slice(None), slice(None), slice(None))
    make_room(anatomy, everywhere, vessels)
    anatomy.fractions["blood"] += vessels
    for breast in seen:
        add_distractors(tumour, anatomy, breast, mask)
    add_oedema(anatomy, lesion, growth)
    make_room(anatomy, lesion.box, lesion.body)
    for name, share in lesion.fluids.items():
        anatomy.fractions.setdefault(name, np.zeros(grid.shape, np.float32))[lesion.box] += share

    return Body(
        place=place,
        index=index,
        labels=labels,
        latents=latents,
        side=side,
        background=background_level,
        breasts=breasts,
        anatomy=anatomy,
        gland=gland,
        lesion=lesion,
        mask=mask,
        vessels=trees,
        body_stream=body,
        scanner=scanner,
    )


def make_exam(centre: str, index: int, settings: PhantomSettings) -> PhantomExam:
    """Generate patient `index` of a centre (`"A"` or `"centre-a"`) in memory, as `scan` does.

    Raises
    ------
    ConfigError
        The phantom has no such centre.

    """
    return scan(make_body(centre, index, settings), settings)


def scan(body: Body, settings: PhantomSettings) -> PhantomExam:
    """Take the MRI of a body, once: it goes on with the body's streams."""
    place, anatomy, grid, side = body.place, body.anatomy, body.anatomy.grid, body.side
    protocol, population = protocol_at(place, settings.shift), settings.population(place)
    background = background_uptake(body.scanner, anatomy, body.background)
    images = acquire(body.scanner, anatomy, body.lesion, background, protocol=protocol, motion_mm=population.motion_mm)
    # Philips scales each exam to its storage range and writes the factor to RescaleSlope; the others do not scale.
    slope = round(float(images.max()) / 4000.0 + 0.01, 6) if place.series == "single" else 1.0
    table = body.body_stream.normal(
        0.0, (4.0, 10.0, 12.0)
    )  # position of the patient relative to the magnet's isocentre, mm
    origin = tuple(round(float(start + shift), 4) for start, shift in zip(grid.origin, table, strict=True))
    return PhantomExam(
        centre=place.key,
        index=body.index,
        phases=(np.clip(np.rint(images / slope), 0.0, _GREY_MAX) * slope).astype(np.float32),
        times_s=(-round(protocol.post_times_s[0] * 0.8, 1), *(round(time, 1) for time in protocol.post_times_s)),
        grid=Grid(grid.shape, grid.spacing, (origin[0], origin[1], origin[2])),
        lesion=body.mask,
        breast=anatomy.breast[side],
        fibroglandular=(body.gland >= _GLAND_VISIBLE) & anatomy.breast[side],
        side=side,
        labels=body.labels,
        latents=body.latents,
        protocol=protocol,
        slope=slope,
    )
