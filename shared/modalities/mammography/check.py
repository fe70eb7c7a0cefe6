"""What `fedbreast check` reads of a mammogram: both views, the outlines, and all that `prepare` cuts out of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from shared.cohort.preflight import Case
from shared.dicom.index import read_headers
from shared.errors import StudyError
from shared.modalities.checked_case import CheckedCase, SeenSeries, panel
from shared.modalities.mammography.cache import cut_out
from shared.modalities.mammography.plan import Extraction
from shared.modalities.mammography.roi import read_roi, roi_files
from shared.modalities.mammography.settings import MammographySettings
from shared.modalities.mammography.tags import View, is_mammogram
from shared.modalities.mammography.views import BreastViews, image_files, read_views
from shared.types import BoolArray

_INTENTS = {"presentation": "for presentation", "processing": "for processing", "film": "film"}
_DOUBT = "as its background shows"
"""The end of a step where the image is believed and not its tags."""
_BESIDE = {"other_breast": "of the other breast", "further_image": "another image of the view was taken"}


def check(case: Case, seen: CheckedCase) -> None:
    """Read both views and, where the row names one, the lesion's outline in them; cut out what networks read."""
    with contextlib.suppress(StudyError):  # the views' reader says what is wrong
        seen.identify(item for item in read_headers(image_files(case)) if is_mammogram(item))
    breast = read_views(case)
    _see(breast, seen)
    images = breast.images
    masks = roi_files(case, images.keys()) if case.row.mask else {}
    outlines: dict[View, BoolArray] = {}
    for view, path in masks.items():
        outlines[view] = read_roi(path, images[view], case.mask_choice())
        if (pixel := images[view].pixel_mm) is not None:
            seen.facts[f"lesion_{view.lower()}_mm2"] = round(float(outlines[view].sum()) * pixel**2, 1)
        _draw(breast, seen, outlines)
    cut_out(images, outlines, Extraction.of(MammographySettings()))


def _see(breast: BreastViews, seen: CheckedCase) -> None:
    first = next(iter(breast.images.values()))
    seen.facts |= {"views": tuple(breast.images), "vendor": first.manufacturer}
    for view, image in breast.images.items():
        look = f"{view}, {_INTENTS[image.intent]}, {image.pixels.shape[0]} x {image.pixels.shape[1]}"
        seen.series.append(SeenSeries(1, look, taken=True))
        seen.facts[f"pixel_{view.lower()}_mm"] = image.pixel_mm
        seen.notes += [f"{view}: {step}." for step in image.steps if step.endswith(_DOUBT)]
        seen.notes += [f"{view}: {breast.chosen[view]}."] if view in breast.chosen else []
    if len(breast.images) == 1:
        seen.notes.append(f"Of the two views there is {next(iter(breast.images))} alone.")
    for reason, count in breast.left_out.items():
        seen.series.append(SeenSeries(count, "mammogram", taken=False, why=_BESIDE.get(reason, reason)))
    _draw(breast, seen, {})


def _draw(breast: BreastViews, seen: CheckedCase, outlines: Mapping[View, BoolArray]) -> None:
    seen.panels = [
        panel(view, image.pixels, (1.0, 1.0), (0.0, 1.0), lesion=outlines.get(view))
        for view, image in breast.images.items()
    ]
