"""Read one mammogram: float32 `(y, x)` in 0..1, the breast bright on dark, the chest wall at the left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.errors import StudyError
from shared.modalities.mammography.breast import (
    Air,
    Reduced,
    chest_wall_is_right,
    find_air,
    find_breast,
    reduced_image,
)
from shared.modalities.mammography.grey import StoredImage, attenuation, read_stored, windowed
from shared.modalities.mammography.tags import Intent, View, ViewTags
from shared.types import BoolArray, FloatArray, Side

BRIGHTEST = 99.9
"""Percentile of the breast that becomes 1 where the image has no window of its own."""
PIXEL_MM = 0.01, 1.0
_SQUARE = 1.01
_FILM_EDGE = 0.003  # share of a film's columns at either side: it shines through there, brighter than any tissue


@dataclass(frozen=True, slots=True)
class MammogramImage:
    """One view of one breast.

    Attributes
    ----------
    pixels
        float32 `(y, x)` in 0..1: air, labels and padding are 0, the chest wall is at the left.
    breast
        bool `(y, x)`, where the breast is.
    pixel_mm
        Side of a pixel, mm; None where no tag says, as of CBIS-DDSM's films.
    upturned, mirrored
        Whether its rows, and its columns, are in the reverse order of the file's.
    steps
        What was done to it, in order, in words of ours.

    """

    pixels: FloatArray
    breast: BoolArray
    pixel_mm: float | None
    side: Side
    view: View
    intent: Intent
    manufacturer: str
    upturned: bool
    mirrored: bool
    steps: tuple[str, ...]

    def turned(self, mask: BoolArray) -> BoolArray:
        """A mask whose pixels are in the file's order, in the order of `pixels`."""
        return _turned(mask, self.upturned, self.mirrored)


@dataclass(frozen=True, slots=True)
class _Grey:
    """Grey values of which air is the darkest; `scaled` says whether they are in 0..1 already."""

    values: FloatArray
    scaled: bool
    reduced: Reduced
    air: Air
    steps: list[str]


def read_mammogram(tags: ViewTags) -> MammogramImage:
    """Read the image of a plain CC or MLO view.

    Raises
    ------
    StudyError
        The view's own fault. `no_pixel_spacing`: pixels are not square, or of an impossible size. `unreadable_file` and
        `blank_image` as `grey.read_stored`, `unclear_background` and `no_breast_found` as `breast` says.

    """
    if tags.fault is not None or tags.side is None or tags.view is None:
        raise tags.fault or StudyError("no_view", "no tag names the breast and the view")
    pixel_mm = _pixel_mm(tags.spacing_mm)
    image = read_stored(tags)
    grey = _processed(image) if tags.intent == "processing" else _shown(image)
    coarse = find_breast(grey.reduced, grey.air)
    breast = grey.reduced.enlarged(coarse) & ~image.padding
    if tags.intent == "film":
        edge = math.ceil(_FILM_EDGE * breast.shape[1])
        breast[:, :edge] = breast[:, -edge:] = False
    upturned, mirrored = _is_upside_down(tags), chest_wall_is_right(coarse)
    values, steps = grey.values, [*grey.steps]
    if not grey.scaled:
        span = float(np.percentile(values[breast], BRIGHTEST)) - grey.air.level
        values = (values - np.float32(grey.air.level)) / np.float32(span)
        steps.append(f"scaled from air to percentile {BRIGHTEST:g} of the breast")
    pixels = np.where(breast, np.clip(values, 0.0, 1.0), np.float32(0))
    steps.append("air, labels and padding set to 0")
    steps += ["turned upside down"] * upturned + ["mirrored"] * mirrored
    return MammogramImage(
        pixels=np.ascontiguousarray(pixels[_order(upturned), _order(mirrored)], np.float32),
        breast=_turned(breast, upturned, mirrored),
        pixel_mm=pixel_mm,
        side=tags.side,
        view=tags.view,
        intent=tags.intent,
        manufacturer=tags.header.manufacturer,
        upturned=upturned,
        mirrored=mirrored,
        steps=tuple(steps),
    )


def _shown(image: StoredImage) -> _Grey:
    """Grey values as the image is to be shown; whether it is inverted is what its tags say, if its air agrees.

    MONOCHROME1 and a PresentationLUTShape of INVERSE both say so (PS3.3 C.7.6.3.1.2, C.8.11.1), and stand together.
    """
    window, done = windowed(image)
    values, scaled = (image.values, False) if window is None else (window, True)
    inverted = image.text("PhotometricInterpretation") == "MONOCHROME1"
    shape = image.text("PresentationLUTShape")
    doubt = shape == ("IDENTITY" if inverted else "INVERSE")
    steps = [done, "inverted, as its tags say"] if inverted else [done]
    values = _inverted(values, scaled) if inverted else values
    reduced = reduced_image(values, image.padding)
    air = find_air(reduced)
    if not air.dark:
        values = _inverted(values, scaled)
        steps = [done] if inverted else [done, "inverted"]
        reduced = reduced_image(values, image.padding)
        air = find_air(reduced)
    if doubt or inverted != (len(steps) > 1):
        steps.append("its tags on inversion are wrong, as its background shows")
    return _Grey(values, scaled, reduced, air, steps)


def _inverted(values: FloatArray, scaled: bool) -> FloatArray:
    return np.float32(1) - values if scaled else -values


def _processed(image: StoredImage) -> _Grey:
    """Attenuation by an image For Processing; air, which attenuates least, settles a sign that is wrong."""
    for against_sign in (False, True):
        values, done = attenuation(image, against_sign=against_sign)
        reduced = reduced_image(values, image.padding)
        air = find_air(reduced)
        if air.dark:
            break
    doubt = ["its tag on the exposure's sign is wrong, as its background shows"] if against_sign else []
    return _Grey(values, scaled=False, reduced=reduced, air=air, steps=[done, *doubt])


def _pixel_mm(spacing: tuple[float, float] | None) -> float | None:
    """Side of a square pixel, mm."""
    if spacing is None:
        return None
    finest, coarsest = PIXEL_MM
    if not finest <= min(spacing) <= max(spacing) <= min(coarsest, _SQUARE * min(spacing)):
        told = f"{spacing[0]:.3g} x {spacing[1]:.3g} mm"
        raise StudyError("no_pixel_spacing", f"pixels of {told} are in no mammogram; write the true spacing into it")
    return spacing[0]


def _is_upside_down(tags: ViewTags) -> bool:
    """Whether PatientOrientation says that columns run to the head, or of a CC view to the outer side.

    They run to the feet, and to the inner side, as mammograms are hung; rows run to the front or to the back.
    """
    if len(tags.orientation) != 2 or tags.orientation[0][:1] not in {"A", "P"}:  # noqa: PLR2004 - rows, columns
        return False
    outwards = "L" if tags.side == "left" else "R"
    return tags.orientation[1].startswith("H" if tags.view == "MLO" else outwards)


def _order(reverse: bool) -> slice:
    return slice(None, None, -1 if reverse else 1)


def _turned(mask: BoolArray, upturned: bool, mirrored: bool) -> BoolArray:
    return np.ascontiguousarray(mask[_order(upturned), _order(mirrored)])
