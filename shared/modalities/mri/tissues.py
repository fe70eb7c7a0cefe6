"""Reference masks of breast and fibroglandular tissue on the grid of a prepared case.

They have their own entry in the cache, made only in runs that train on them, so that prepared cases of other tasks do
not change. A case is one breast: its reference is the part of the masks inside the box of that breast, as a mask may
contain the other breast too. Fibroglandular tissue outside the mask of the breast does not count.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.cohort.preflight import TISSUE_MASKS, Case
from shared.errors import ExclusionReason, StudyError
from shared.modalities.mri.breast_crop import Window
from shared.modalities.mri.cache import PreparedMri
from shared.preprocessing.cache import Entry, entry_name, file_digest, get_or_make, open_array, pack_mask, unpack_mask
from shared.preprocessing.resample import resample_mask
from shared.types import STRUCTURES, BoolArray, Grid

log = logging.getLogger(__name__)

VERSION = 2
"""Version of this module: raised when it changes what the masks look like."""


def with_tissues(root: Path, case: Case, prepared: PreparedMri) -> PreparedMri:
    """Add the tissue masks of a case from the cache at `root`; without usable ones it is returned unchanged."""
    if not any(case.mask_path(kind) for kind in TISSUE_MASKS):
        return prepared
    try:
        folder = keep_tissues(root, case, prepared)
    except StudyError as error:
        log.warning("case %s has no tissue masks: %s", case.key, error)
        return prepared
    return replace(prepared, tissue_folder=folder, labels=replace(prepared.labels, tissues=True))


def keep_tissues(root: Path, case: Case, prepared: PreparedMri) -> Path:
    """Resample the tissue masks of a case, keep them in the cache at `root` and return the folder.

    Raises
    ------
    StudyError
        `no_mask`: the row names only one of the two masks, or a file is missing; `empty_mask`: no breast in the box, or
        a mask without voxels; others as `shared.dicom.masks.read_mask`.

    """
    place = prepared.place

    def make() -> Entry:
        native = _read_tissues(case, place.native, place.window)
        placed = np.stack([resample_mask(mask[place.window], place.box_axes, place.plan_axes) for mask in native])
        tissues = np.ascontiguousarray(placed[..., ::-1] if place.mirrored else placed, np.uint8)
        return {"tissues": tissues, "native": pack_mask(native)}, {}

    # Named by all content: the prepared case, which stands for images and plan, and the masks' bytes and segments.
    parts = [prepared.folder.name, str(VERSION)]
    for kind in TISSUE_MASKS:
        parts += [file_digest(case.need_mask(kind)), getattr(case.row, kind).partition("#")[2]]
    folder = root / "tissues" / entry_name(*parts)
    get_or_make(root, folder, make)
    return folder


def _read_tissues(case: Case, grid: Grid, window: Window) -> BoolArray:
    """Masks `(structure, z, y, x)` on the study's grid, empty outside the box of the breast; raises `StudyError`."""
    native = np.zeros((len(STRUCTURES), *grid.shape), np.bool_)
    for mask, kind in zip(native, TISSUE_MASKS, strict=True):
        mask[window] = case.load_mask(grid, kind)[window]
    if not native[0].any():
        raise StudyError("empty_mask", "the breast's mask marks nothing inside the box of the breast")
    native[1] &= native[0]
    return native


def tissue_fault(case: Case, grid: Grid, window: Window) -> ExclusionReason | None:
    """Reason why the tissue masks cannot be used; None if they can, or if the row names none.

    `window` are the slices `(z, y, x)` of the breast's box on the study's grid.
    """
    if not any(case.mask_path(kind) for kind in TISSUE_MASKS):
        return None
    try:
        _read_tissues(case, grid, window)
    except StudyError as error:
        return error.reason
    return None


def open_tissues(case: PreparedMri) -> npt.NDArray[np.uint8]:
    """Memory map `(structure, z, y, x)` of 0 and 1 on the plan's grid, in the order of `STRUCTURES`."""
    return open_array(_folder(case), "tissues")


def native_tissues(case: PreparedMri) -> BoolArray:
    """Reference masks, bool `(structure, z, y, x)` on the study's own grid; empty outside the box."""
    return unpack_mask(open_array(_folder(case), "native"), (len(STRUCTURES), *case.place.native.shape))


def _folder(case: PreparedMri) -> Path:
    if case.tissue_folder is None:
        raise StudyError("no_mask", "the case has no reference masks of breast and fibroglandular tissue")
    return case.tissue_folder
