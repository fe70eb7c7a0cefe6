"""Prepared breasts on disk: of each view the square around the lesion and the whole breast, at the size of the run.

What is cut out depends on the configuration alone, so that there is one entry a case, made for the fingerprint. A
plan's mean and deviation are applied when a network reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from shared.cohort.labels import CaseLabels
from shared.cohort.preflight import Case
from shared.modalities.mammography.image import MammogramImage
from shared.modalities.mammography.plan import BINS, SAMPLES, Extraction, MammographyFingerprint
from shared.modalities.mammography.roi import cut_roi, cut_window, read_roi, roi_files
from shared.modalities.mammography.tags import View
from shared.modalities.mammography.views import image_files, read_views
from shared.preprocessing.cache import Entry, content_digest, entry_name, get_or_make, open_array
from shared.preprocessing.resample import HALF
from shared.types import BoolArray, FloatArray, Side

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedBreast:
    """One prepared breast, `key` its pseudonym.

    `views` are those that could be read, in the order CC, MLO; `outlined` those of them with an outline of the lesion.
    """

    key: str
    side: Side
    folder: Path
    views: tuple[View, ...]
    outlined: tuple[View, ...]
    labels: CaseLabels

    def whole(self) -> dict[View, FloatArray]:
        """The whole breast in each view, float32 `(y, x)` in 0..1, as large as the configuration says."""
        return dict(zip(self.views, _images(self.folder, "whole"), strict=True))

    def regions(self) -> dict[View, FloatArray]:
        """The square around the lesion in each view that has an outline, float32 `(y, x)` in 0..1."""
        return dict(zip(self.outlined, _images(self.folder, "roi"), strict=True))

    def outlines(self, extent: Literal["roi", "whole"]) -> dict[View, BoolArray]:
        """The lesion in each view that has an outline, on the pixels of `regions` or of `whole`."""
        return dict(zip(self.outlined, np.asarray(open_array(self.folder, f"{extent}_outline")), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        record: dict[str, Any] = _RECORDS.dump_python(self, mode="json")
        return record

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PreparedBreast:
        """Undo `to_dict`; `ValueError` for other data, `FileNotFoundError` if the cache holds the case no more."""
        case = _RECORDS.validate_python(data)
        if case.to_dict() != data:  # of another version: pydantic passes over unknown fields and fills in defaults
            raise ValueError("not the record of a prepared breast")
        if not case.folder.is_dir():
            raise FileNotFoundError("the cache no longer holds the prepared case")
        return case


_RECORDS = TypeAdapter(PreparedBreast)


def cached_breast(case: Case, extraction: Extraction, root: Path, *, lesion: bool) -> PreparedBreast:
    """Return a prepared breast, from the cache at `root` if it is there; with its lesion's squares where `lesion`.

    Raises `StudyError` as `views.read_views` and, where the row names a mask, `roi.roi_files`, `read_roi`, `cut_roi`.
    """
    wanted = lesion and bool(case.row.mask)
    name = entry_name(content_digest(case, image_files(case)), extraction.hash(), str(wanted))
    folder = root / "mammograms" / name
    facts = get_or_make(root, folder, lambda: _extract(case, extraction, lesion=wanted))
    outlined = tuple(facts["outlined"])
    return PreparedBreast(
        key=case.key,
        side=case.row.side,
        folder=folder,
        views=tuple(facts["views"]),
        outlined=outlined,
        labels=replace(case.row.labels, outlined=bool(outlined)),
    )


def fingerprint_breast(case: PreparedBreast) -> MammographyFingerprint:
    """Fingerprint of one prepared breast."""
    return MammographyFingerprint(np.ones(1, np.int64), np.array(open_array(case.folder, "levels"), np.int64))


def _images(folder: Path, name: str) -> FloatArray:
    return np.asarray(open_array(folder, name), np.float32)


def _extract(case: Case, extraction: Extraction, *, lesion: bool) -> Entry:
    breast = read_views(case)
    if breast.left_out:
        counts = ", ".join(f"{reason} {count}" for reason, count in breast.left_out.items())
        log.info("case %s: files left out: %s", case.key, counts)
    images = breast.images
    masks = roi_files(case, images.keys()) if lesion else {}
    outlines = {view: read_roi(path, images[view], case.mask_choice()) for view, path in masks.items()}
    return cut_out(images, outlines, extraction), {"views": list(images), "outlined": list(outlines)}


def cut_out(
    images: Mapping[View, MammogramImage], outlines: Mapping[View, BoolArray], extraction: Extraction
) -> dict[str, np.ndarray[Any, Any]]:
    """What networks read of a breast: the whole of each view, and the square around the lesion where it is outlined."""
    margin, unit, size = extraction.margin, extraction.margin_unit, extraction.roi_pixels
    squares = [cut_roi(images[view], mask, margin=margin, unit=unit, side=size) for view, mask in outlines.items()]
    drawn = [
        whole_breast(replace(images[view], pixels=mask.astype(np.float32)), extraction.whole_pixels) >= HALF
        for view, mask in outlines.items()
    ]
    arrays = {
        "whole": np.stack([whole_breast(image, extraction.whole_pixels) for image in images.values()]),
        "roi": np.array([square.pixels for square in squares]).reshape(-1, size, size),
    }
    return {name: array.astype(np.float16) for name, array in arrays.items()} | {
        "roi_outline": np.array([square.mask for square in squares], np.bool_).reshape(-1, size, size),
        "whole_outline": np.array(drawn, np.bool_).reshape(-1, *extraction.whole_pixels),
        "levels": _levels(list(images.values())),
    }


def whole_breast(image: MammogramImage, shape: tuple[int, int]) -> FloatArray:
    """The box around the breast, from the chest wall at the left, made as wide or high as `shape` is, and resized.

    Breasts keep their proportions: a box that is too narrow is widened to the right, one that is too low at both ends.
    """
    rows, columns = (np.flatnonzero(image.breast.any(axis=axis)) for axis in (1, 0))
    height, width = float(rows[-1] - rows[0] + 1), float(columns[-1] - columns[0] + 1)
    step = max(height / shape[0], width / shape[1])
    top = 0.5 * (float(rows[0] + rows[-1] + 1) - step * shape[0])
    return cut_window(image.pixels, top, float(columns[0]), step, shape)


def _levels(images: list[MammogramImage]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Counts of grey values of pixels that are evenly spread over the breast in all views."""
    values = np.concatenate([image.pixels[image.breast] for image in images])
    sampled = values[np.linspace(0, len(values) - 1, min(SAMPLES, len(values))).astype(np.int64)]
    return np.bincount(np.minimum((sampled * BINS).astype(np.int64), BINS - 1), minlength=BINS).astype(np.int64)
